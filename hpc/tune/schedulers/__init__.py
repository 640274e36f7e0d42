"""Schedulers of trials: which of them run, stop, pause and change. Ray Tune's names, defaults and semantics."""

from __future__ import annotations

import inspect
from typing import Any

from hpc.tune.schedulers.async_hyperband import ASHAScheduler, AsyncHyperBandScheduler
from hpc.tune.schedulers.hb_bohb import HyperBandForBOHB
from hpc.tune.schedulers.hyperband import HyperBandScheduler
from hpc.tune.schedulers.median_stopping_rule import MedianStoppingRule
from hpc.tune.schedulers.trial_scheduler import FIFOScheduler, TrialScheduler

#: Classes by the names that create_scheduler takes.
SCHEDULER_IMPORT: dict[str, Any] = {
    "fifo": FIFOScheduler,
    "async_hyperband": AsyncHyperBandScheduler,
    "asynchyperband": AsyncHyperBandScheduler,
    "median_stopping_rule": MedianStoppingRule,
    "medianstopping": MedianStoppingRule,
    "hyperband": HyperBandScheduler,
    "hb_bohb": HyperBandForBOHB,
}


def create_scheduler(scheduler: str, **kwargs: Any) -> TrialScheduler:
    """The scheduler of this name, made with those of the arguments that it has. ValueError for other names."""
    name = scheduler.lower()
    if name not in SCHEDULER_IMPORT:
        raise ValueError(f"there is no scheduler {scheduler!r}: take one of {', '.join(SCHEDULER_IMPORT)}")
    kind = SCHEDULER_IMPORT[name]
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
    "TrialScheduler",
    "create_scheduler",
]
