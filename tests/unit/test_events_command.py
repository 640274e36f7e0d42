"""`hpc events --follow`: each event is seen when it comes, and the last ones of a job are not missed."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpc.cli import events
from hpc.core.events.rows import EventRow


def test_events_as_json_come_through_a_pipe_at_once(monkeypatch: pytest.MonkeyPatch):
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(pipe)))  # type: ignore[type-var]
    events._show({"json": True}, [EventRow(1, 5.0, "INFO", "NODE_JOINED", "GCS", "node 1 joined")])
    assert b'"NODE_JOINED"' in pipe.getvalue()


def test_what_was_written_just_before_a_job_ended_is_shown(tmp_path, monkeypatch, capsys):
    def status() -> dict[str, str]:
        (tmp_path / "events.jsonl").write_text('{"t": 5.0, "event": "the last one"}\n')
        return {"state": "ended"}

    monkeypatch.setattr(events, "chosen", lambda options, rest: [SimpleNamespace(path=Path(tmp_path), status=status)])
    assert events._of_job({"follow": True}, ["3"]) == 0
    assert "the last one" in capsys.readouterr().out
