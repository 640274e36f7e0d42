"""What is told of a training: metrics of all kinds have curves or have none, and none of them ends it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

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


def _rate(telling: TrainTelling) -> dict[str, float]:
    return {name: value for name, value in telling.brief().numbers.items() if name == "reports_per_second"}
