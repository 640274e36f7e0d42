"""Hyperparameter search on the nodes of a session: Ray Tune's names, defaults and semantics.

Names are imported when first used: each trial's process imports this package, and few of them need more of it than
``report``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint as Checkpoint
    from hpc.tune.config import CheckpointConfig as CheckpointConfig
    from hpc.tune.config import FailureConfig as FailureConfig
    from hpc.tune.config import ResumeConfig as ResumeConfig
    from hpc.tune.config import RunConfig as RunConfig
    from hpc.tune.config import SyncConfig as SyncConfig
    from hpc.tune.config import TuneConfig as TuneConfig
    from hpc.tune.context import TuneContext as TuneContext
    from hpc.tune.context import get_checkpoint as get_checkpoint
    from hpc.tune.context import get_context as get_context
    from hpc.tune.context import report as report
    from hpc.tune.error import TuneError as TuneError
    from hpc.tune.placement import PlacementGroupFactory as PlacementGroupFactory
    from hpc.tune.registry import register_env as register_env
    from hpc.tune.registry import register_trainable as register_trainable
    from hpc.tune.sharing import with_parameters as with_parameters
    from hpc.tune.sharing import with_resources as with_resources
    from hpc.tune.trainable import Trainable as Trainable

#: Where each name is.
_HOME = {
    "Checkpoint": "hpc.runs.checkpoint",
    "CheckpointConfig": "hpc.tune.config",
    "FailureConfig": "hpc.tune.config",
    "PlacementGroupFactory": "hpc.tune.placement",
    "ResumeConfig": "hpc.tune.config",
    "RunConfig": "hpc.tune.config",
    "SyncConfig": "hpc.tune.config",
    "Trainable": "hpc.tune.trainable",
    "TuneConfig": "hpc.tune.config",
    "TuneContext": "hpc.tune.context",
    "TuneError": "hpc.tune.error",
    "get_checkpoint": "hpc.tune.context",
    "get_context": "hpc.tune.context",
    "register_env": "hpc.tune.registry",
    "register_trainable": "hpc.tune.registry",
    "report": "hpc.tune.context",
    "with_parameters": "hpc.tune.sharing",
    "with_resources": "hpc.tune.sharing",
}
#: Modules that users name by this package without importing them.
_MODULES = frozenset(("error", "registry"))

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
