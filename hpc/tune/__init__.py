"""Hyperparameter search on the nodes of a session: Ray Tune's names, defaults and semantics.

Names are imported when first used: each trial's process imports this package, and few of them need more of it than
``report``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.util.lazy import LazyNames

if TYPE_CHECKING:
    from hpc.runs.checkpoint import Checkpoint as Checkpoint
    from hpc.runs.result import Result as Result
    from hpc.tune.analysis import ExperimentAnalysis as ExperimentAnalysis
    from hpc.tune.callback import Callback as Callback
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
    from hpc.tune.experiment import Experiment as Experiment
    from hpc.tune.placement import PlacementGroupFactory as PlacementGroupFactory
    from hpc.tune.progress_reporter import CLIReporter as CLIReporter
    from hpc.tune.progress_reporter import JupyterNotebookReporter as JupyterNotebookReporter
    from hpc.tune.progress_reporter import ProgressReporter as ProgressReporter
    from hpc.tune.registry import register_env as register_env
    from hpc.tune.registry import register_trainable as register_trainable
    from hpc.tune.result_grid import ResultGrid as ResultGrid
    from hpc.tune.run import run as run
    from hpc.tune.run import run_experiments as run_experiments
    from hpc.tune.schedulers import create_scheduler as create_scheduler
    from hpc.tune.search import create_searcher as create_searcher
    from hpc.tune.sharing import with_parameters as with_parameters
    from hpc.tune.sharing import with_resources as with_resources
    from hpc.tune.space import choice as choice
    from hpc.tune.space import grid_search as grid_search
    from hpc.tune.space import lograndint as lograndint
    from hpc.tune.space import loguniform as loguniform
    from hpc.tune.space import qlograndint as qlograndint
    from hpc.tune.space import qloguniform as qloguniform
    from hpc.tune.space import qrandint as qrandint
    from hpc.tune.space import qrandn as qrandn
    from hpc.tune.space import quniform as quniform
    from hpc.tune.space import randint as randint
    from hpc.tune.space import randn as randn
    from hpc.tune.space import sample_from as sample_from
    from hpc.tune.space import uniform as uniform
    from hpc.tune.stopper import Stopper as Stopper
    from hpc.tune.trainable import Trainable as Trainable
    from hpc.tune.tuner import Tuner as Tuner

#: Where each name is.
_HOME = {
    "CLIReporter": "hpc.tune.progress_reporter",
    "Callback": "hpc.tune.callback",
    "Checkpoint": "hpc.runs.checkpoint",
    "CheckpointConfig": "hpc.tune.config",
    "Experiment": "hpc.tune.experiment",
    "ExperimentAnalysis": "hpc.tune.analysis",
    "FailureConfig": "hpc.tune.config",
    "JupyterNotebookReporter": "hpc.tune.progress_reporter",
    "PlacementGroupFactory": "hpc.tune.placement",
    "ProgressReporter": "hpc.tune.progress_reporter",
    "Result": "hpc.runs.result",
    "ResultGrid": "hpc.tune.result_grid",
    "ResumeConfig": "hpc.tune.config",
    "RunConfig": "hpc.tune.config",
    "Stopper": "hpc.tune.stopper",
    "SyncConfig": "hpc.tune.config",
    "Trainable": "hpc.tune.trainable",
    "TuneConfig": "hpc.tune.config",
    "TuneContext": "hpc.tune.context",
    "TuneError": "hpc.tune.error",
    "Tuner": "hpc.tune.tuner",
    "choice": "hpc.tune.space",
    "create_scheduler": "hpc.tune.schedulers",
    "create_searcher": "hpc.tune.search",
    "get_checkpoint": "hpc.tune.context",
    "get_context": "hpc.tune.context",
    "grid_search": "hpc.tune.space",
    "lograndint": "hpc.tune.space",
    "loguniform": "hpc.tune.space",
    "qlograndint": "hpc.tune.space",
    "qloguniform": "hpc.tune.space",
    "qrandint": "hpc.tune.space",
    "qrandn": "hpc.tune.space",
    "quniform": "hpc.tune.space",
    "randint": "hpc.tune.space",
    "randn": "hpc.tune.space",
    "register_env": "hpc.tune.registry",
    "register_trainable": "hpc.tune.registry",
    "report": "hpc.tune.context",
    "run": "hpc.tune.run",
    "run_experiments": "hpc.tune.run",
    "sample_from": "hpc.tune.space",
    "uniform": "hpc.tune.space",
    "with_parameters": "hpc.tune.sharing",
    "with_resources": "hpc.tune.sharing",
}
#: Modules that users name by this package without importing them.
_MODULES = frozenset(
    (
        "analysis",
        "callback",
        "error",
        "experiment",
        "integration",
        "logger",
        "registry",
        "schedulers",
        "search",
        "stopper",
    )
)

__all__ = sorted(_HOME)

_lazy = LazyNames(__name__, _HOME, _MODULES)


def __getattr__(name: str) -> Any:
    return _lazy.get(name)


def __dir__() -> list[str]:
    return _lazy.all()
