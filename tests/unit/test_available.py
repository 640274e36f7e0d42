"""What is said to be free is free for a further task: what others were promised is not."""

from __future__ import annotations

from typing import Any

import pytest

import hpc
from hpc.state import nodes


def row(**changes: Any) -> dict[str, Any]:
    there = {"alive": True, "totals": {"CPU": 40_000}, "free": {"CPU": 40_000}, "spare": {"CPU": 40_000}}
    return {**there, **changes}


def test_what_was_promised_and_not_reported_yet_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(), row(spare={"CPU": 10_000}), {"alive": False, "totals": {"CPU": 40_000}, "free": {}}]
    monkeypatch.setattr(nodes, "_rows", lambda: rows)
    assert hpc.available_resources() == {"CPU": 5.0}
    assert hpc.cluster_resources() == {"CPU": 8.0}
