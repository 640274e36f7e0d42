"""Train one trial by the schedule of configurations that population based training has found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc.tune.naming import values_text
from hpc.tune.schedulers import pbt_policy
from hpc.tune.schedulers.trial_scheduler import FIFOScheduler, TrialScheduler
from hpc.tune.trial import Controller, Trial


class PopulationBasedTrainingReplay(FIFOScheduler):
    """Replays the file `pbt_policy_ID.txt` of a trial: one trial gets its configurations, each in its time.

    The trial must save when it is paused: it goes on from there with the next configuration. Raises ValueError for a
    file that is not there or is no such file.
    """

    def __init__(self, policy_file: str) -> None:
        super().__init__()
        path = Path(policy_file).expanduser()
        if not path.exists():
            raise ValueError(f"the policy file {path.as_posix()} is not there")
        self.policy_file = path.as_posix()
        self.config, self._policy = pbt_policy.read(self.policy_file)
        self.experiment_tag = f"replay_{path.name}"
        self.current_config = self.config
        self._trial_id: str | None = None
        self._current_step: float = 0
        #: How many changes have been made, and whether the trial is paused for the next one.
        self._num_perturbations = 0
        self._changing = False

    def on_trial_add(self, controller: Controller, trial: Trial) -> None:
        """Give the trial its first configuration. ValueError for a second trial, and without any configuration."""
        if self._trial_id not in (None, trial.trial_id):
            raise ValueError("a replay trains one trial, and there is a second one: leave num_samples at 1")
        if self._trial_id is not None:
            return
        self._trial_id = trial.trial_id
        if not trial.config and self.config is None:
            raise ValueError(f"{self.policy_file} has no configuration, and the trial has none: give a param_space")
        if self.config is None:
            self.config = self.current_config = dict(trial.config)
            return
        trial.config.clear()
        trial.config.update(self.config)

    def on_trial_result(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> str:
        """Pause the trial where it is to go on with another configuration."""
        if "training_iteration" not in result or self._num_perturbations >= len(self._policy):
            return TrialScheduler.CONTINUE
        self._current_step = result["training_iteration"]
        if self._current_step < self._policy[self._num_perturbations][0]:
            return TrialScheduler.CONTINUE
        self._changing = True
        return TrialScheduler.PAUSE

    def choose_trial_to_run(self, controller: Controller) -> Trial | None:
        """The trial, with the next configuration where it was paused for that. RuntimeError if it did not save."""
        trial = super().choose_trial_to_run(controller)
        if trial is not None and self._changing and trial.status == Trial.PAUSED:
            config = self._policy[self._num_perturbations][1]
            tag = f"{self.experiment_tag}@perturbed[{values_text({('config', key): config[key] for key in config})}]"
            if not controller.exploit(trial, trial, config, tag):
                raise RuntimeError(
                    "a replay changes a trial's configuration as it goes on: the trial must save for that"
                )
            self._changing = False
            self._num_perturbations += 1
            self.current_config = config
        return trial

    def state(self) -> dict[str, Any]:
        """How far the replay is."""
        names = ("config", "current_config", "_trial_id", "_current_step", "_num_perturbations", "_changing")
        return {name: getattr(self, name) for name in names}

    def load(self, state: dict[str, Any], get_trial: Any = None) -> None:
        """Go on from a `state()`."""
        vars(self).update(state)

    def debug_string(self) -> str:
        """How far the replay is."""
        return f"PopulationBasedTraining replay: Step {self._current_step}, perturb {self._num_perturbations}"
