"""Schedulers of trials: which of them run, stop, pause and change. Ray Tune's names, defaults and semantics."""

from __future__ import annotations

import inspect
from typing import Any

from hpc.tune.schedulers.async_hyperband import ASHAScheduler, AsyncHyperBandScheduler
from hpc.tune.schedulers.hb_bohb import HyperBandForBOHB
from hpc.tune.schedulers.hyperband import HyperBandScheduler
from hpc.tune.schedulers.median_stopping_rule import MedianStoppingRule
from hpc.tune.schedulers.pbt import PopulationBasedTraining, PopulationBasedTrainingReplay
from hpc.tune.schedulers.resource_changing_scheduler import ResourceChangingScheduler
from hpc.tune.schedulers.trial_scheduler import FIFOScheduler, TrialScheduler


def _pb2() -> type[TrialScheduler]:
    from hpc.tune.schedulers.pb2 import PB2

    return PB2


#: Classes by the names that create_scheduler takes; a function gives one that needs more than this package does.
SCHEDULER_IMPORT: dict[str, Any] = {
    "fifo": FIFOScheduler,
    "async_hyperband": AsyncHyperBandScheduler,
    "asynchyperband": AsyncHyperBandScheduler,
    "median_stopping_rule": MedianStoppingRule,
    "medianstopping": MedianStoppingRule,
    "hyperband": HyperBandScheduler,
    "hb_bohb": HyperBandForBOHB,
    "pbt": PopulationBasedTraining,
    "pbt_replay": PopulationBasedTrainingReplay,
    "pb2": _pb2,
    "resource_changing": ResourceChangingScheduler,
}


def create_scheduler(scheduler: str, **kwargs: Any) -> TrialScheduler:
    """The scheduler of this name, made with those of the arguments that it has. ValueError for other names."""
    name = scheduler.lower()
    if name not in SCHEDULER_IMPORT:
        raise ValueError(f"there is no scheduler {scheduler!r}: take one of {', '.join(SCHEDULER_IMPORT)}")
    kind = SCHEDULER_IMPORT[name]
    kind = kind() if inspect.isfunction(kind) else kind
    known = inspect.signature(kind).parameters
    made: TrialScheduler = kind(**{key: value for key, value in kwargs.items() if key in known})
    return made


__all__ = [
    "ASHAScheduler",
    "AsyncHyperBandScheduler",
    "FIFOScheduler",
    "HyperBandForBOHB",
    "HyperBandScheduler",
    "MedianStoppingRule",
    "PopulationBasedTraining",
    "PopulationBasedTrainingReplay",
    "ResourceChangingScheduler",
    "TrialScheduler",
    "create_scheduler",
]
