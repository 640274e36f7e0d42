"""All that an experiment tells: the user's callbacks, those of RAY_TUNE_CALLBACKS, its output, loggers and error files.

One entry for whoever runs an experiment::

    told = callbacks_for(
        run_config.callbacks, about=About(name, path, "BasicVariantGenerator", "FIFOScheduler", total, metric, mode),
        verbose=run_config.verbose, progress_reporter=run_config.progress_reporter,
    )
    told.setup(stop=stopper, num_samples=n, total_num_samples=total, storage_filesystem=filesystem)
    told.on_trial_start(iteration=i, trials=trials, trial=trial)        # and so on: keywords, as under Ray
    told.on_step_end(iteration=i, trials=trials)                        # once a second at least: files are written then
    told.on_experiment_end(trials=trials)
    told.close()                                                        # in a `finally`

A trial's ``path`` is set before its ``on_trial_start``; its directory need not be there.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hpc.runs.files import files_of
from hpc.tune.callback import Callback, CallbackList
from hpc.tune.files import EAGER_TRIALS, write_error
from hpc.tune.logger.csv import CSVLoggerCallback
from hpc.tune.logger.json import JsonLoggerCallback
from hpc.tune.logger.logger import FewTrials
from hpc.tune.logger.tensorboardx import TBXLoggerCallback
from hpc.tune.naming import date_text
from hpc.tune.reporter.output import About, ExperimentOutput, verbosity

if TYPE_CHECKING:
    from hpc.tune.progress_reporter import ProgressReporter
    from hpc.tune.trial import Trial

logger = logging.getLogger(__name__)

#: Paths of classes, separated by commas, of which each experiment has one.
CALLBACKS_VARIABLE = "RAY_TUNE_CALLBACKS"
#: "1": no loggers but those of the user.
NO_LOGGERS_VARIABLE = "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"
DEFAULT_LOGGERS = (CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback)


class ErrorFiles(Callback):
    """Writes what has gone wrong to a trial's ``error.txt`` and ``error.pkl``."""

    def __init__(self, few: FewTrials) -> None:
        self._few = few
        self._files = files_of(None)

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        self._few.expect(total_num_samples)
        self._files = files_of(info.get("storage_filesystem"))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.on_trial_error(iteration, trials, trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if trial.error is None or trial.path is None or not self._few.admits(trial):
            return
        try:
            write_error(self._files, trial.path, trial.num_failures, date_text(datetime.now()), trial.error)
        except OSError as error:
            logger.warning("the error of trial %s is not in its directory: %s", trial, error)


class ToldList(CallbackList):
    """The callbacks of an experiment. They are closed however it ends."""

    def close(self) -> None:
        """Give back the terminal and write what loggers have gathered; raises nothing. Closing again is harmless."""
        for one in self:
            close = getattr(one, "close", None)
            if close is not None:
                try:
                    close()
                except Exception as error:
                    logger.warning("%s could not be closed: %s", type(one).__name__, error)


def callbacks_for(
    callbacks: Sequence[Callback] | None,
    *,
    about: About,
    verbose: Any = None,
    progress_reporter: ProgressReporter | None = None,
    eager_trials: int = EAGER_TRIALS,
) -> ToldList:
    """The callbacks of an experiment, in the order in which they are told.

    First those of the user, then those of the variable RAY_TUNE_CALLBACKS, then the output. CSV, JSON and TensorBoard
    follow, unless the user has given one of the kind.

    eager_trials: an experiment of more trials has files on demand only. Raises TypeError for what is no callback, and
    ValueError for a name in the variable that is none.
    """
    told = [*(callbacks or ()), *_from_variable()]
    for one in told:
        if not isinstance(one, Callback):
            raise TypeError(f"RunConfig.callbacks must be hpc.tune.Callback objects, not {type(one).__name__}")
    automatic = os.environ.get(NO_LOGGERS_VARIABLE, "0") != "1"
    kinds = [kind for kind in DEFAULT_LOGGERS if automatic and not any(isinstance(one, kind) for one in told)]
    few = FewTrials(eager_trials)
    has_events = TBXLoggerCallback in kinds and (about.total is None or about.total <= eager_trials)
    has_events = has_events or any(isinstance(one, TBXLoggerCallback) for one in told)
    output = ExperimentOutput(about._replace(tensorboard=has_events), verbosity(verbose), progress_reporter)
    return ToldList([*told, output, ErrorFiles(few), *(kind(few) for kind in kinds)])


def _from_variable() -> list[Callback]:
    found: list[Callback] = []
    for path in os.environ.get(CALLBACKS_VARIABLE, "").split(","):
        path = path.strip()
        if not path:
            continue
        module, _, name = path.rpartition(".")
        try:
            kind = getattr(importlib.import_module(module), name)
            if not (isinstance(kind, type) and issubclass(kind, Callback)):
                raise TypeError(f"{path} is no class with the base hpc.tune.Callback")
            found.append(kind())
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{CALLBACKS_VARIABLE} names {path!r}, of which there is no callback: {error}") from error
    return found
