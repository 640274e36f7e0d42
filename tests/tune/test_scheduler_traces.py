"""Our schedulers decide as Ray's do in a thousand experiments of each kind.

record_traces.py writes what Ray's schedulers decide. In an eighth of the experiments a scheduler of ours is replaced
each tenth step by one that goes on from its state, so that what a state lacks shows.
"""

from __future__ import annotations

import gzip
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc.tune import schedulers, space
from hpc.tune.placement import PlacementGroupFactory
from hpc.tune.schedulers import distribute_resources
from tune.families import FAMILIES, SEQUENCES, mutations, rules_of
from tune.playing import Play, Side

TRACES = Path(__file__).with_name("traces")
CLASSES = {
    "asha": schedulers.AsyncHyperBandScheduler,
    "hyperband": schedulers.HyperBandScheduler,
    "bohb": schedulers.HyperBandForBOHB,
    "median": schedulers.MedianStoppingRule,
}
made: dict[str, Any] = {}


def numpys(seed: int) -> random.Random:
    """Python's generator in the state to which numpy's global one is brought by a seed."""
    generator = random.Random()
    _, key, at, _, _ = np.random.RandomState(seed).get_state()
    generator.setstate((3, (*map(int, key), at), None))
    return generator


def make(family: str, arguments: dict[str, Any], seed: int) -> Any:
    made.update(family=family, arguments=arguments, seed=seed, mutations=None)
    return another()


def another() -> Any:
    """A scheduler as the last one was made."""
    family, seed, given = made["family"], made["seed"], dict(made["arguments"])
    if family in CLASSES:
        scheduler = CLASSES[family](**given)
        if family == "asha":
            scheduler._generator = numpys(seed)
        return scheduler
    if family == "resources":
        base, mode, top = given.pop("base"), given.pop("mode"), given.pop("top")
        name = "DistributeResourcesToTopJob" if top else "DistributeResources"
        more = {"metric": "score", "mode": mode} if top else {}
        judged = {"metric": "score", "mode": mode, "max_t": 20, "grace_period": 4, "time_attr": "time"}
        first = schedulers.FIFOScheduler() if base == "fifo" else schedulers.ASHAScheduler(**judged)
        share = getattr(distribute_resources, name)(**given, **more)
        return schedulers.ResourceChangingScheduler(first, share)
    kind = given.pop("mutations")
    made["mutations"] = made["mutations"] or mutations(kind, space, seed)
    scheduler = schedulers.PopulationBasedTraining(hyperparam_mutations=made["mutations"], **given)
    scheduler._dice.own = random.Random(seed)
    scheduler._dice.domains = np.random.RandomState(seed)
    return scheduler


def reload(scheduler: Any) -> Any:
    other = another()
    other.load(pickle.loads(pickle.dumps(scheduler.state())))
    return other


SIDE = Side(make, shape=lambda bundles: PlacementGroupFactory(list(bundles)), reload=reload)


def difference(family: str, seed: int, trace: str) -> str:
    """Where our scheduler decides otherwise than Ray's; "" if nowhere."""
    expected = trace.split(",")
    play = Play(family, rules_of(family, seed), seed, SIDE)
    play.run(len(expected))
    for step, (ray, ours) in enumerate(zip(expected, play.notes)):
        if ray != ours:
            return f"experiment {seed}, step {step} of {len(expected)}: Ray's {ray}, ours {ours}"
    return ""


@pytest.mark.parametrize("family", FAMILIES)
def test_decisions_are_those_of_ray(family: str) -> None:
    traces = gzip.decompress((TRACES / f"{family}.gz").read_bytes()).decode().split("\n")
    assert len(traces) == SEQUENCES
    differ = [found for seed, trace in enumerate(traces) if trace and (found := difference(family, seed, trace))]
    assert not differ, f"{len(differ)} of {SEQUENCES} differ: {differ[:3]}"
