"""The recorder harms no job: whatever of it fails, hangs or is gone, hpc-launch goes on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc.report import recorder, write
from hpc.report.recorder import PACE, Recorder, _Loop, _wait_for, pause_s


def refuse(*_: Any) -> Any:
    raise OSError("there is no more of that")


@pytest.mark.parametrize("what", [(os, "fork"), (socket, "socketpair")])
def test_a_job_goes_on_without_one_where_there_is_no_room_for_it(monkeypatch, tmp_path, what):
    monkeypatch.setattr(*what, refuse)
    found = Recorder()
    found.begin("nowhere", tmp_path)
    found.last_look(True)
    found.end("normal", "", 0)
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert not found.pid and event["event"] == "recorder-failed" and "no more of that" in event["text"]


def test_the_end_of_one_that_is_gone_and_waited_for(monkeypatch):
    monkeypatch.setattr(recorder, "PATIENCE_S", 0.01)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    found = Recorder()
    found.pid = child.pid
    found._sock, theirs = socket.socketpair()
    with theirs:  # somebody holds its end, so that nothing is heard from it
        found.end("error", "why", 3)
        assert json.loads(theirs.recv(1000)) == {"cause": "error", "text": "why", "code": 3}
    found.end("error", "again", 3)


def test_one_that_cannot_be_killed_is_left_behind(monkeypatch):
    monkeypatch.setattr(os, "waitpid", lambda pid, options: (0, 0))
    assert not _wait_for(1, 0.0)
    monkeypatch.setattr(os, "waitpid", lambda pid, options: (pid, 9))
    assert _wait_for(1, 0.0)


class Heard(_Loop):
    """One that does not look, but notes its end."""

    ended: tuple[Any, str, int | None] | None = None

    def _look(self, timeout_s: float, *, last: bool = False) -> None:
        pass

    def _finish(self, cause: Any, text: str, code: int | None) -> None:
        self.ended = (cause, text, code)


def test_a_launch_that_is_killed_during_the_last_look_has_its_report_too():
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(b'{"look": 1}\n')
        ours.close()
        loop = Heard("nowhere", Path(), theirs.fileno())
        loop.run()
    assert loop.ended is not None and loop.ended[0] == "killed"


def test_looks_that_cost_much_are_further_apart():
    assert pause_s(10.0, 0.01) == 10.0 and pause_s(10.0, 3.0) == 3.0 * PACE


def test_beside_nodes_without_a_runtime_of_ours_it_knows_what_was_granted(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "FIRST_S", 0.01)
    there = {"gateway": False, "alive": True, "why": "", "free": {}, "totals": {"CPU": 40_000}}
    granted = [{**there, "node": n, "host": f"h{n}"} for n in (1, 2)]
    ours, theirs = socket.socketpair()
    with theirs, ours:
        loop = _Loop("", tmp_path, theirs.fileno(), granted)
        ours.sendall(b'{"look": 1}\n')
        ours.sendall(b'{"cause": "error", "text": "rank 1 failed", "code": 7}\n')
        loop.run()
        assert ours.recv(1) == b"."
    facts = write.kept(tmp_path)
    assert facts.is_plain and [node.host for node in facts.nodes] == ["h1", "h2"] and facts.uses[0].cpus == 8.0
    assert (facts.ending.cause, facts.ending.code) == ("error", 7) and "rank 1 failed" in (
        tmp_path / "report.html"
    ).read_text()
