"""Stoppers and the retention of checkpoints decide as Ray's do: the values were printed by Ray 2.60."""

from __future__ import annotations

import datetime
import pickle

import pytest

from hpc.runs.checkpoint import Checkpoint
from hpc.tune import stopper as stoppers
from hpc.tune.retention import Rule
from hpc.tune.stopper import (
    CombinedStopper,
    ExperimentPlateauStopper,
    FunctionStopper,
    MaximumIterationStopper,
    NoopStopper,
    TimeoutStopper,
    TrialPlateauStopper,
    stopper_of,
)

VALUES = [3.0, 1.0, 1.01, 1.0, 1.005, 0.2, 0.2, 0.2, 0.2, 0.2]


def stops(stopper, values=VALUES):
    """The numbers of the results at which the stopper says to stop."""
    return [number for number, value in enumerate(values) if stopper("t", {"m": value})]


@pytest.mark.parametrize(
    ("stopper", "expected"),
    [
        (MaximumIterationStopper(9), [8, 9]),
        (TrialPlateauStopper("m"), [4, 8, 9]),
        (TrialPlateauStopper("m", metric_threshold=0.5, mode="min"), [8, 9]),
        (TrialPlateauStopper("m", metric_threshold=0.5, mode="max"), [4]),
        (TrialPlateauStopper("m", num_results=2, grace_period=7), [6, 7, 8, 9]),
        (TrialPlateauStopper("m", std=0.5, num_results=3), [3, 4, 5, 6, 7, 8, 9]),
        (ExperimentPlateauStopper("m", top=4), [8, 9]),
        (ExperimentPlateauStopper("m", top=3, std=0.01, patience=2), [4, 8, 9]),
        (ExperimentPlateauStopper("m", top=3, std=0.01, mode="max"), []),
        (CombinedStopper(MaximumIterationStopper(10), TrialPlateauStopper("m")), [4, 8, 9]),
        (FunctionStopper(lambda trial_id, result: result["m"] > 1), [0, 2, 4]),
        (NoopStopper(), []),
    ],
)  # fmt: skip
def test_a_stopper_stops_where_rays_does(stopper, expected):
    assert stops(stopper) == expected


def test_the_time_of_a_stopper_passes_only_while_a_driver_asks(monkeypatch):
    now = 100.0
    monkeypatch.setattr(stoppers.time, "time", lambda: now)
    one = TimeoutStopper(datetime.timedelta(seconds=10))
    assert not one.stop_all()
    now = 106.0
    assert not one.stop_all()
    two = pickle.loads(pickle.dumps(one))
    now = 1000.0
    assert not two.stop_all()
    now = 1004.0
    assert two.stop_all()


def test_what_stop_says():
    assert stopper_of({"a/b": 3})[0] == {"a/b": 3} and stopper_of(None)[0] == {}
    assert isinstance(stopper_of(lambda trial_id, result: True)[1], FunctionStopper)
    assert isinstance(stopper_of([NoopStopper()])[1], CombinedStopper)
    for wrong in ({"a": {"b": 1}}, [3], 3):
        with pytest.raises(ValueError, match="stop"):
            stopper_of(wrong)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(2), [7, 8]),
        (Rule(2, "m"), [8, 0, 3]),
        (Rule(1, "m"), [8, 3]),
        (Rule(2, "m", "min"), [8, 6, 1]),
        (Rule(None, "m"), [2, 1, 5, 6, 8, 7, 4, 0, 3]),
    ],
)
def test_the_checkpoints_that_stay_are_rays(rule, expected):
    kept = []
    for number, value in enumerate([3.0, 0.1, float("nan"), 3.0, 1.0, 0.2, 0.2, 0.5, 0.3]):
        kept, _ = rule.add(kept, (Checkpoint(f"/c/{number}"), {"m": value}))
    assert [int(one.path[3:]) for one, _ in kept] == expected
