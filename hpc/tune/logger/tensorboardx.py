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
from hpc.tune.result import TIME_TOTAL_S, TIMESTEPS_TOTAL, TRAINING_ITERATION

if TYPE_CHECKING:
    from hpc.tune.trial import Trial

logger = logging.getLogger(__name__)

#: What is no curve.
_LEFT_OUT = ("config", "pid", "timestamp", TIME_TOTAL_S, TRAINING_ITERATION)
_NUMBERS = (int, float, np.floating, np.integer)


class _EventFile:
    """The events of one trial that are to be written, and what is said of it at its end."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.events = [tfevents.first_event(time.time())]
        self.last: list[str] = []


class TBXLoggerCallback(FileLogger):
    """Writes what trials report for TensorBoard: ``tensorboard --logdir EXPERIMENT``.

    {"a": {"b": 1}} has the tag "ray/tune/a/b". Numbers are curves over timesteps_total, else over training_iteration.
    Lists are histograms, and arrays of 3 or 4 dimensions pictures. At the end of a trial its hyperparameters are added.
    """

    _SAVED_FILE_TEMPLATES = ("events.out.tfevents.*",)
    VALID_HPARAMS = (str, bool, int, float, list, type(None))

    def __init__(self, few: FewTrials | None = None) -> None:
        super().__init__(few)
        self._open: dict[str, _EventFile] = {}
        self._doubted: set[str] = set()

    def log_trial_start(self, trial: Trial) -> None:
        self._close(trial)
        if self._writes(trial):
            name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{len(self._open)}"
            self._open[trial.trial_id] = _EventFile(f"{trial.path}/{name}")

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        if trial.trial_id not in self._open:
            self.log_trial_start(trial)
        file = self._open.get(trial.trial_id)
        if file is None:
            return
        step = result.get(TIMESTEPS_TOTAL) or result[TRAINING_ITERATION]
        values, file.last = [], []
        for name, value in flatten_dict({k: v for k, v in result.items() if k not in _LEFT_OUT}).items():
            tag = f"ray/tune/{name}"
            if isinstance(value, _NUMBERS):
                if math.isnan(value):
                    continue
                values.append(tfevents.scalar(tag, float(value)))
                file.last.append(tag)
            elif isinstance(value, (list, np.ndarray)) and len(value):
                found = self._summary_of(tag, value)
                values += [found] if found is not None else []
        file.events.append(tfevents.event(time.time(), int(step), b"".join(values)))

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        file = self._open.get(trial.trial_id)
        if file is not None and trial.evaluated_params and file.last:
            now = time.time()
            summaries = tfevents.hparams(self._hparams(trial), file.last, failed, now)
            file.events += [tfevents.event(now, 0, one) for one in summaries]
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

    def _summary_of(self, tag: str, value: Any) -> bytes | None:
        try:
            if isinstance(value, np.ndarray) and value.ndim in (3, 4):
                return tfevents.image(tag, value)
            if isinstance(value, np.ndarray) and value.ndim > 4:
                raise ValueError("videos are not written")
            return tfevents.histogram(tag, value)
        except (ValueError, TypeError) as error:
            if tag not in self._doubted:
                self._doubted.add(tag)
                logger.warning("TensorBoard does not get %s: %s", tag, error)
            return None

    def _hparams(self, trial: Trial) -> dict[str, Any]:
        found = {}
        for name, value in flatten_dict(trial.evaluated_params).items():
            value = value.item() if isinstance(value, np.generic) else value
            if isinstance(value, self.VALID_HPARAMS):
                found[name] = value
            elif name not in self._doubted:
                self._doubted.add(name)
                logger.info("TensorBoard does not get the hyperparameter %s, a %s", name, type(value).__name__)
        return found
