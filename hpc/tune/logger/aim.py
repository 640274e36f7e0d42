"""Aim: a run of it for each trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc.tune.flat import flatten_dict
from hpc.tune.logger.tracking import NO_CURVES, TrackingCallback, experiment_of, need, step_of

if TYPE_CHECKING:
    from hpc.tune.trial import Trial


class AimLoggerCallback(TrackingCallback):
    """Makes a run of Aim of each trial.

    repo: a directory or aim.Repo; the experiment's directory by default. experiment_name: that of the experiment by
    default. metrics: the names of those that are tracked; all by default. Others go to aim.Run.

    Raises ImportError without the package aim, and ValueError for an empty list of metrics.
    """

    VALID_HPARAMS = (str, bool, int, float, list, type(None))

    def __init__(
        self,
        repo: Any = None,
        experiment_name: str | None = None,
        metrics: Sequence[str] | None = None,
        **aim_run_kwargs: Any,
    ) -> None:
        super().__init__()
        self._aim = need("aim", "aim", "AimLoggerCallback")
        if metrics is not None and not metrics:
            raise ValueError("metrics must name one at least; leave it out to track all")
        self._repo = repo
        self._experiment_name = experiment_name
        self._metrics = None if metrics is None else set(metrics)
        self._aim_run_kwargs = aim_run_kwargs
        self._runs: dict[str, Any] = {}

    def log_trial_start(self, trial: Trial) -> None:
        repo = self._repo or (trial.path or ".").rstrip("/").rpartition("/")[0]
        about = {"repo": repo, "experiment": self._experiment_name or experiment_of(trial), **self._aim_run_kwargs}
        found = {"trial_id": trial.trial_id, "trial_log_dir": trial.path}
        if trial.node_ip:
            found["trial_ip"] = trial.node_ip
        parameters = {
            key: one.item() if isinstance(one, np.generic) else one
            for key, one in flatten_dict(trial.evaluated_params).items()
            if isinstance(one, (*self.VALID_HPARAMS, np.generic))
        }
        self._later(self._start, trial.trial_id, about, found, parameters)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        self._later(self._report, trial.trial_id, dict(result))

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        self._later(self._end, trial.trial_id)

    def _start(self, trial_id: str, about: dict[str, Any], found: dict[str, Any], parameters: dict[str, Any]) -> None:
        if trial_id in self._runs:
            self._runs.pop(trial_id).close()
        run = self._runs[trial_id] = self._aim.Run(**about)
        for key, value in found.items():
            run[key] = value
        if parameters:
            run["hparams"] = parameters

    def _report(self, trial_id: str, result: dict[str, Any]) -> None:
        step, context, epoch = step_of(result), result.pop("context", None), result.pop("epoch", None)
        for key, value in flatten_dict({k: one for k, one in result.items() if k not in NO_CURVES}).items():
            wanted = self._metrics is None or key in self._metrics
            if wanted and isinstance(value, (int, float, np.floating, np.integer)) and math.isfinite(value):
                self._runs[trial_id].track(value=value, name=f"ray/tune/{key}", epoch=epoch, step=step, context=context)

    def _end(self, trial_id: str) -> None:
        self._runs.pop(trial_id).close()
