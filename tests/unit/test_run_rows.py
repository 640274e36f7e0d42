"""Runs of libraries as `hpc list` and `hpc get` tell of them: JSON that every reader takes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from hpc.cli import get
from hpc.state import runs
from hpc.state.bulletins import Brief, Curve, TrainDetail


def test_a_loss_that_is_no_number_leaves_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    nan = float("nan")
    brief = Brief("train", "t", "RUNNING", numbers={"reports": 2.0, "loss": nan})
    told: dict[str, Any] = {"brief": msgspec.msgpack.encode(brief), "over": False, "gone": "", "age_s": 1.0}
    rows = runs.rows_of([{**told, "process": "1.2", "number": 3}])
    assert rows[0]["numbers"] == {"reports": 2.0} and rows[0]["words"] == "2 reports, nan loss"
    detail = TrainDetail(curves=[Curve("loss", [1.0, 2.0], [0.5, nan])])
    monkeypatch.setattr(get, "rows_of", lambda kind, given, limit: rows)
    monkeypatch.setattr(runs, "run_detail", lambda run_id: (detail, True))
    assert get._get({"json": True}, ["runs", "1.2/3"]) == 0
    (found,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["run_id"] == "1.2/3" and found["detail"]["curves"] == [["loss", [1.0, 2.0], [0.5, None]]]
    assert get._get({}, ["runs", "1.2/3"]) == 0
    assert "loss: nan at 2" in capsys.readouterr().out
