"""Comet: an experiment of it for each trial."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpc.runs.files import walk_links
from hpc.tune.flat import flatten_dict
from hpc.tune.logger.tracking import TrackingCallback, need

if TYPE_CHECKING:
    from hpc.tune.trial import Trial

_SYSTEM = ("node_ip", "hostname", "pid", "date")
_OTHER = ("trial_id", "experiment_id", "experiment_tag")
_HIDDEN = ("done", "should_checkpoint", "config")
#: What the library would gather by itself, and be slowed down for.
_QUIET = ("auto_output_logging", "log_git_metadata", "log_git_patch", "log_env_cpu", "log_env_gpu")


class CometLoggerCallback(TrackingCallback):
    """Makes an experiment of Comet of each trial.

    online: False: it is written to a file, to be sent later. tags: of each. save_checkpoints: as artifacts. Others go
    to comet_ml.Experiment, or OfflineExperiment; a key is ``api_key``, or COMET_API_KEY.

    Raises ImportError without the package comet_ml.
    """

    def __init__(
        self,
        online: bool = True,
        tags: Sequence[str] | None = None,
        save_checkpoints: bool = False,
        **experiment_kwargs: Any,
    ) -> None:
        super().__init__()
        os.environ.setdefault("COMET_DISABLE_AUTO_LOGGING", "1")
        self._comet = need("comet_ml", "comet_ml", "CometLoggerCallback")
        self.online = online
        self.tags = list(tags or ())
        self.save_checkpoints = save_checkpoints
        self.experiment_kwargs = {**dict.fromkeys(_QUIET, False), **experiment_kwargs}
        self._experiments: dict[str, Any] = {}

    def log_trial_start(self, trial: Trial) -> None:
        config = {key: one for key, one in trial.config.items() if key != "callbacks"}
        self._later(self._start, trial.trial_id, str(trial), config)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        self._later(self._report, trial.trial_id, dict(result))

    def log_trial_save(self, trial: Trial) -> None:
        if self.save_checkpoints and trial.checkpoint is not None and os.path.isdir(trial.checkpoint.path):
            self._later(self._save, trial.trial_id, str(trial), trial.checkpoint.path)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        self._later(self._end, trial.trial_id)

    def _start(self, trial_id: str, name: str, config: dict[str, Any]) -> None:
        if trial_id not in self._experiments:
            kind = self._comet.Experiment if self.online else self._comet.OfflineExperiment
            self._experiments[trial_id] = kind(**self.experiment_kwargs)
            need("comet_ml.config", "comet_ml", "CometLoggerCallback").set_global_experiment(None)
        experiment = self._experiments[trial_id]
        experiment.set_name(name)
        experiment.add_tags(self.tags)
        experiment.log_other("Created from", "hpc.tune")
        experiment.log_parameters(flatten_dict(config))

    def _report(self, trial_id: str, result: dict[str, Any]) -> None:
        experiment, step = self._experiments[trial_id], result["training_iteration"]
        config = {key: one for key, one in (result.get("config") or {}).items() if key != "callbacks"}
        experiment.log_parameters(flatten_dict(config), step=step)
        flat = {key: one for key, one in flatten_dict(result).items() if not _first(key, _HIDDEN)}
        experiment.log_others({key: one for key, one in flat.items() if _first(key, _OTHER)})
        curves = {key: one for key, one in flat.items() if not _first(key, (*_OTHER, *_SYSTEM))}
        experiment.log_metrics(curves, step=step)
        for key, one in flat.items():
            if _first(key, _SYSTEM):
                experiment.log_system_info(key, one)

    def _save(self, trial_id: str, name: str, path: str) -> None:
        artifact = self._comet.Artifact(name=f"checkpoint_{name}", artifact_type="model")
        for file in walk_links(path):
            artifact.add(file, logical_path=os.path.relpath(file, path))
        self._experiments[trial_id].log_artifact(artifact)

    def _end(self, trial_id: str) -> None:
        self._experiments.pop(trial_id).end()


def _first(key: str, names: Sequence[str]) -> bool:
    return key.partition("/")[0] in names
