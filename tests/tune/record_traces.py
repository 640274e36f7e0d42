"""Writes tests/tune/traces: what Ray's schedulers decide in seeded experiments.

    python tests/tune/record_traces.py [FAMILY ...]

It runs under a Python that has Ray (2.60.0 made the traces that are kept). Each line of a trace is one experiment: the
notes of its steps with commas between them. Where Ray's scheduler raises, or leaves paused trials that it will never
let go on, the experiment ends with the step before.
"""

from __future__ import annotations

import gzip
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from ray import tune
from ray.train._internal import session
from ray.tune import schedulers
from ray.tune.schedulers import resource_changing_scheduler as changing

from tune.families import FAMILIES, SEQUENCES, mutations, rules_of
from tune.playing import Play, PlayedTrial, Side

TRACES = Path(__file__).with_name("traces")
CLASSES = {
    "asha": schedulers.AsyncHyperBandScheduler,
    "hyperband": schedulers.HyperBandScheduler,
    "bohb": schedulers.HyperBandForBOHB,
    "median": schedulers.MedianStoppingRule,
}


class Saving(session._FutureTrainingResult):
    """A save that ends when it is asked for."""

    def __init__(self, trial: PlayedTrial) -> None:
        self.checkpoint = trial.checkpoint

    def resolve(self, block: bool = True) -> Any:
        return session._TrainingResult(checkpoint=self.checkpoint, metrics={}) if self.checkpoint else None


def make(family: str, arguments: dict[str, Any], seed: int) -> Any:
    random.seed(seed)
    np.random.seed(seed)
    if family in CLASSES:
        return CLASSES[family](**arguments)
    given = dict(arguments)
    if family == "resources":
        base, mode, top = given.pop("base"), given.pop("mode"), given.pop("top")
        kind = changing.DistributeResourcesToTopJob if top else changing.DistributeResources
        more = {"metric": "score", "mode": mode} if top else {}
        judged = {"metric": "score", "mode": mode, "max_t": 20, "grace_period": 4, "time_attr": "time"}
        first = schedulers.FIFOScheduler() if base == "fifo" else schedulers.ASHAScheduler(**judged)
        return changing.ResourceChangingScheduler(first, kind(**given, **more))
    kind = given.pop("mutations")
    return schedulers.PopulationBasedTraining(hyperparam_mutations=mutations(kind, tune, seed), **given)


def stuck(scheduler: Any, controller: Any) -> bool:
    """Whether paused trials wait for what will never come."""
    if type(scheduler) is schedulers.HyperBandScheduler:
        brackets = [one for band in scheduler._hyperbands for one in band if one]
        return any(_forgotten(one) for one in brackets)
    if isinstance(scheduler, schedulers.PopulationBasedTraining) and scheduler._synch:
        live = controller.get_live_trials()
        there = [scheduler._trial_state[one].last_train_time >= scheduler._next_perturbation_sync for one in live]
        return bool(live) and all(there) and all(one.status == "PAUSED" for one in live)
    return False


def _forgotten(bracket: Any) -> bool:
    live = list(bracket._live_trials)
    waits = [one.status == "PAUSED" and one not in bracket.trials_to_unpause for one in live]
    return bool(live) and all(waits) and bracket.cur_iter_done()


def main() -> None:
    side = Side(make, shape=lambda bundles: tune.PlacementGroupFactory(list(bundles)), future=Saving, stuck=stuck)
    for family in sys.argv[1:] or FAMILIES:
        plays = [Play(family, rules_of(family, seed), seed, side).run() for seed in range(SEQUENCES)]
        text = "\n".join(",".join(notes) for notes in plays)
        path = TRACES / f"{family}.gz"
        path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        print(f"{family}: {sum(map(len, plays))} steps, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
