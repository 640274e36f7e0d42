"""What is told of a training: metrics of all kinds have curves or have none, and none of them ends it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from hpc.runs.manifest import Manifest, decode
from hpc.runs.ranking import Stored
from hpc.train.events import Reported
from hpc.train.rounds import Round
from hpc.train.telling import TrainTelling


class Broken:
    """A class of a user's that has no number."""

    def __float__(self) -> float:
        raise RuntimeError("it has 2 elements")


def test_metrics_with_keys_and_values_of_all_kinds_are_told():
    storage: Any = SimpleNamespace(ranking=SimpleNamespace(kept=[]), path="/x")
    telling = TrainTelling("t", storage, SimpleNamespace(waits_for=""))  # type: ignore[arg-type]
    metrics = {0: 0.5, "big": 1 << 2000, "by": {"class": Broken(), 1: 0.25}, "two": np.ones(2), "one": np.float32(2.0)}
    for number in range(3):
        telling.reported(Round(number, {0: Reported(number, metrics)}), None, number + 1)
    assert telling.brief().numbers == {"reports": 3, "ranks": 0, **_rate(telling), "0": 0.5, "by/1": 0.25, "one": 2.0}
    assert [curve.name for curve in telling.detail().curves] == ["0", "by/1", "one"]


def test_a_checkpoint_of_an_earlier_run_was_stored_when_it_was():
    manifest = Manifest("c", 1, 3, {"loss": 0.5}, stored_s=1000.25)
    there = Stored(SimpleNamespace(path="/x/c"), decode(manifest.encode()))  # type: ignore[arg-type]
    storage: Any = SimpleNamespace(ranking=SimpleNamespace(kept=[there]), path="/x")
    telling = TrainTelling("t", storage, SimpleNamespace(waits_for=""))  # type: ignore[arg-type]
    telling.stored(there)
    assert [row.stored_s for row in telling.detail().checkpoints] == [1000.25]
    before = json.loads(manifest.encode())
    del before["stored_s"]
    assert decode(json.dumps(before).encode()).stored_s == 0, "an earlier version has written it"


def _rate(telling: TrainTelling) -> dict[str, float]:
    return {name: value for name, value in telling.brief().numbers.items() if name == "reports_per_second"}
