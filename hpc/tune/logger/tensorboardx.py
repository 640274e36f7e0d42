"""Event files for TensorBoard, under Ray's name for their logger; no package is needed to write them."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc.tune.flat import flatten_dict
from hpc.tune.logger import tfevents
from hpc.tune.logger.logger import FewTrials, FileLogger
from hpc.tune.result import ITERATIONS_SINCE_RESTORE, TIME_TOTAL_S, TIMESTEPS_TOTAL, TRAINING_ITERATION

if TYPE_CHECKING:
    from hpc.tune.trial import Trial

logger = logging.getLogger(__name__)

#: What is no curve.
_LEFT_OUT = ("config", "pid", "timestamp", TIME_TOTAL_S, TRAINING_ITERATION)
_NUMBERS = (int, float, np.floating, np.integer)
VALID_HPARAMS = (str, bool, int, float, list, type(None))


#: With what the names of event files begin.
EVENTS_PREFIX = "events.out.tfevents."


class _EventFile:
    """The events of one trial that are to be written, and what is said of it at its end."""

    def __init__(self, path: str, now: float) -> None:
        self.path = path
        self.events = [tfevents.first_event(now)]
        self._curves: list[str] = []

    def add(self, result: dict[str, Any], now: float, doubts: _Doubts) -> None:
        """A report."""
        step = _step_of(result)
        values: list[bytes] = []
        self._curves = []
        for name, value in flatten_dict({k: v for k, v in result.items() if k not in _LEFT_OUT}).items():
            tag = f"ray/tune/{name}"
            if isinstance(value, _NUMBERS):
                number = doubts.number_of(tag, value)
                if math.isnan(number):
                    continue
                values.append(tfevents.scalar(tag, number))
                self._curves.append(tag)
            elif isinstance(value, (list, np.ndarray)) and len(value):
                found = doubts.summary_of(tag, value)
                values += [found] if found is not None else []
        self.events.append(tfevents.event(now, step, b"".join(values)))

    def end(self, trial: Trial, failed: bool, now: float, doubts: _Doubts) -> None:
        """The trial has ended: add its hyperparameters."""
        if trial.evaluated_params and self._curves:
            parameters = doubts.parameters_of(trial)
            summaries = tfevents.hparams(parameters, self._curves, failed, now)
            self.events += [tfevents.event(now, 0, one) for one in summaries]


def _step_of(result: dict[str, Any]) -> int:
    """The place of a report on its curves. A trial may have said anything in the place of the count."""
    for key in (TIMESTEPS_TOTAL, TRAINING_ITERATION, ITERATIONS_SINCE_RESTORE):
        try:
            if step := int(result.get(key) or 0):
                return step
        except (TypeError, ValueError, OverflowError):
            pass
    return 0


class _Doubts:
    """Values that no event can have; of each name one is told."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def number_of(self, tag: str, value: Any) -> float:
        """The place on a curve; NaN, which has none, for a number that is too large."""
        try:
            return float(value)
        except OverflowError as error:
            self._tell(tag, str(error))
            return math.nan

    def summary_of(self, tag: str, value: Any) -> bytes | None:
        """A histogram or a picture; None where it can be neither."""
        try:
            if isinstance(value, np.ndarray) and value.ndim in (3, 4):
                return tfevents.image(tag, value)
            if isinstance(value, np.ndarray) and value.ndim > 4:
                raise ValueError("videos are not written")
            return tfevents.histogram(tag, value)
        except (ValueError, TypeError) as error:
            self._tell(tag, str(error))
            return None

    def parameters_of(self, trial: Trial) -> dict[str, Any]:
        """The hyperparameters that the dashboard knows."""
        found = {}
        for name, value in flatten_dict(trial.evaluated_params).items():
            value = value.item() if isinstance(value, np.generic) else value
            if isinstance(value, VALID_HPARAMS):
                found[name] = value
            else:
                self._tell(name, f"it is no hyperparameter that the dashboard knows, but {type(value).__name__}")
        return found

    def _tell(self, name: str, why: str) -> None:
        if name not in self._told:
            self._told.add(name)
            logger.warning("TensorBoard does not get %s: %s", name, why)


class TBXLoggerCallback(FileLogger):
    """Writes what trials report for TensorBoard: ``tensorboard --logdir EXPERIMENT``.

    {"a": {"b": 1}} has the tag "ray/tune/a/b". Numbers are curves over timesteps_total, else over training_iteration.
    Lists are histograms, and arrays of 3 or 4 dimensions pictures. At the end of a trial its hyperparameters are added.
    """

    _SAVED_FILE_TEMPLATES = (f"{EVENTS_PREFIX}*",)

    def __init__(self, few: FewTrials | None = None) -> None:
        super().__init__(few)
        self._open: dict[str, _EventFile] = {}
        self._doubts = _Doubts()
        self._number = 0

    def log_trial_start(self, trial: Trial) -> None:
        self._close(trial)
        if self._writes(trial):
            now = time.time()
            self._number += 1
            name = f"{EVENTS_PREFIX}{int(now)}.{socket.gethostname()}.{os.getpid()}.{self._number}"
            self._open[trial.trial_id] = _EventFile(f"{trial.path}/{name}", now)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        if trial.trial_id not in self._open:
            self.log_trial_start(trial)
        file = self._open.get(trial.trial_id)
        if file is not None:
            file.add(result, time.time(), self._doubts)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        file = self._open.get(trial.trial_id)
        if file is not None:
            file.end(trial, failed, time.time(), self._doubts)
        self._close(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._appender.flush_if_due(self._hand_over)

    def close(self) -> None:
        """Write what is gathered."""
        self._hand_over()
        super().close()

    def _hand_over(self) -> None:
        """The events of all trials become records in one go: their checksums are cheaper so."""
        files = list(self._open.values())
        made = iter(tfevents.records([one for file in files for one in file.events]))
        for file in files:
            if file.events:
                self._appender.add(file.path, b"".join(islice(made, len(file.events))))
                file.events = []

    def _close(self, trial: Trial) -> None:
        file = self._open.pop(trial.trial_id, None)
        if file is not None:
            self._appender.add(file.path, b"".join(tfevents.records(file.events)))
            self._appender.flush(file.path)


def events_of(trial: Trial, history: list[dict[str, Any]]) -> tuple[str, bytes]:
    """The name and the content of the event file of a trial that has reported this."""
    moments = [float(one.get("timestamp") or 0.0) for one in history]
    file, doubts = _EventFile("", moments[0]), _Doubts()
    for result, now in zip(history, moments, strict=True):
        file.add(result, now, doubts)
    if trial.is_finished():
        file.end(trial, trial.status == trial.ERROR, moments[-1], doubts)
    name = f"{EVENTS_PREFIX}{int(moments[0])}.{history[0].get('hostname', 'unknown')}"
    return name, b"".join(tfevents.records(file.events))
