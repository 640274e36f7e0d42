"""Weights & Biases: a run for each trial."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc.tune.flat import flatten_dict
from hpc.tune.logger.tracking import SEND_S, TrackingCallback, experiment_of, need, where_am_i
from hpc.tune.result import TRAINING_ITERATION

if TYPE_CHECKING:
    from hpc.tune.trial import Trial


class WandbLoggerCallback(TrackingCallback):
    """Makes a run of Weights & Biases of each trial.

    project: or the variable WANDB_PROJECT_NAME; it must be there. group: or WANDB_GROUP_NAME; the experiment's name by
    default. api_key, api_key_file: or WANDB_API_KEY, or ``wandb login``. excludes: keys of results and configurations
    that are not sent. log_config: the configuration is sent with each result, as it changes under PBT.
    upload_checkpoints: as artifacts. upload_timeout: seconds that the end waits. video_kwargs, image_kwargs: of
    wandb.Video and wandb.Image, for arrays. Others go to ``wandb.init``.

    Raises ImportError without the package wandb.
    """

    AUTO_CONFIG_KEYS = ("trial_id", "experiment_tag", "node_ip", "experiment_id", "hostname", "pid", "date")

    def __init__(
        self,
        project: str | None = None,
        group: str | None = None,
        api_key_file: str | None = None,
        api_key: str | None = None,
        excludes: Sequence[str] | None = None,
        log_config: bool = False,
        upload_checkpoints: bool = False,
        save_checkpoints: bool = False,
        upload_timeout: float = SEND_S,
        video_kwargs: dict[str, Any] | None = None,
        image_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(upload_timeout)
        self._wandb = need("wandb", "wandb", "WandbLoggerCallback")
        self.project = project
        self.group = group
        self.api_key_path = api_key_file
        self.api_key = api_key
        self.excludes = list(excludes or ())
        self.log_config = log_config
        self.upload_checkpoints = upload_checkpoints or save_checkpoints
        self.video_kwargs = video_kwargs or {}
        self.image_kwargs = image_kwargs or {}
        self.kwargs = kwargs
        self._runs: dict[str, Any] = {}

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Raises ValueError without a project, or a key where one is needed."""
        set_api_key(self._wandb, self.api_key, self.api_key_path)
        self.project = self.project or os.environ.get("WANDB_PROJECT_NAME")
        self.group = self.group or os.environ.get("WANDB_GROUP_NAME")
        if not self.project:
            raise ValueError("WandbLoggerCallback needs a project: give project=..., or set WANDB_PROJECT_NAME")

    def log_trial_start(self, trial: Trial) -> None:
        config = {key: one for key, one in trial.config.items() if key not in ("callbacks", *self.excludes)}
        about = {
            "id": trial.trial_id, "name": str(trial), "group": self.group or experiment_of(trial),
            "project": self.project, "config": self._sendable(config), "resume": "allow", "reinit": "create_new",
            "allow_val_change": True, **self.kwargs,
        }  # fmt: skip
        self._later(self._start, trial.trial_id, about)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        self._later(self._report, trial.trial_id, dict(result))

    def log_trial_save(self, trial: Trial) -> None:
        if self.upload_checkpoints and trial.checkpoint is not None and os.path.isdir(trial.checkpoint.path):
            self._later(self._save, trial.trial_id, str(trial), trial.checkpoint.path)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        self._later(self._end, trial.trial_id, failed)

    def _start(self, trial_id: str, about: dict[str, Any]) -> None:
        if trial_id not in self._runs:
            self._runs[trial_id] = self._wandb.init(**about)

    def _report(self, trial_id: str, result: dict[str, Any]) -> None:
        hidden = ("done", "should_checkpoint", *self.excludes, *(() if self.log_config else ("config",)))
        curves: dict[str, Any] = {}
        config = dict(result.get("config") or {})
        for key, value in flatten_dict(result).items():
            if _is_within(key, hidden):
                continue
            if _is_within(key, self.AUTO_CONFIG_KEYS):
                config[key] = value
            else:
                curves.update(self._sendable({key: value}))
        run = self._runs[trial_id]
        config.pop("callbacks", None)
        run.config.update(self._sendable(config), allow_val_change=True)
        run.log(curves, step=result.get(TRAINING_ITERATION))

    def _save(self, trial_id: str, name: str, path: str) -> None:
        artifact = self._wandb.Artifact(name=f"checkpoint_{name}", type="model")
        artifact.add_dir(path)
        self._runs[trial_id].log_artifact(artifact)

    def _end(self, trial_id: str, failed: bool) -> None:
        self._runs.pop(trial_id).finish(exit_code=1 if failed else 0)

    def _sendable(self, values: dict[str, Any]) -> dict[str, Any]:
        """What the service knows: numbers, texts, lists of them, its own objects, and arrays as pictures."""
        return {key: found for key, one in values.items() if (found := self._one(one)) is not None}

    def _one(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray):
            if value.ndim in (3, 4):
                pictures = [self._wandb.Image(one, **self.image_kwargs) for one in value.reshape(-1, *value.shape[-3:])]
                return pictures[0] if value.ndim == 3 else pictures
            return self._wandb.Video(value, **self.video_kwargs) if value.ndim == 5 else value.tolist()
        if isinstance(value, dict):
            return self._sendable(value)
        if isinstance(value, (list, tuple)):
            return [self._one(one) for one in value]
        if isinstance(value, (int, float, str, bool)) or type(value).__module__.partition(".")[0] == "wandb":
            return value
        return None if value is None else str(value)


def setup_wandb(
    config: dict[str, Any] | None = None,
    api_key: str | None = None,
    api_key_file: str | None = None,
    rank_zero_only: bool = True,
    **kwargs: Any,
) -> Any:
    """Begin a run of Weights & Biases in a trial, and return it: ``run.log({...})`` is called there.

    Its id, name and group are those of the trial and the experiment. config: that of the run. rank_zero_only: the other
    ranks of a training run get a run that sends nothing. Others go to ``wandb.init``. Raises ImportError without the
    package wandb, and ValueError without a key.
    """
    wandb, here = need("wandb", "wandb", "setup_wandb"), where_am_i()
    if rank_zero_only and here.rank:
        return wandb.init(mode="disabled")
    set_api_key(wandb, api_key, api_key_file)
    names = {"id": here.trial_id, "name": here.trial_name, "group": here.experiment}
    about = {"project": os.environ.get("WANDB_PROJECT_NAME"), **names, "config": config, **kwargs}
    return wandb.init(resume="allow", **{key: one for key, one in about.items() if one is not None})


def set_api_key(wandb: Any, api_key: str | None, api_key_file: str | None) -> None:
    """Have WANDB_API_KEY set. Raises ValueError where no key is found, unless WANDB_MODE is offline or disabled."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return
    if api_key_file:
        if api_key:
            raise ValueError("give api_key or api_key_file, not both")
        with open(os.path.expanduser(api_key_file)) as file:
            api_key = file.readline().strip()
    if api_key:
        os.environ["WANDB_API_KEY"] = api_key
    elif not os.environ.get("WANDB_API_KEY") and not getattr(getattr(wandb, "api", None), "api_key", None):
        raise ValueError("Weights & Biases needs a key: give api_key, set WANDB_API_KEY, or run `wandb login`")


def _is_within(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}/") for name in names)
