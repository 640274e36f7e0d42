"""Population based training: from time to time the worst trials become changed copies of the best ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpc.tune.error import TuneError
from hpc.tune.naming import values_text
from hpc.tune.schedulers import pbt_explore, pbt_policy
from hpc.tune.schedulers.judging import JudgingScheduler, own_generator
from hpc.tune.schedulers.pbt_replay import PopulationBasedTrainingReplay
from hpc.tune.schedulers.trial_scheduler import TrialScheduler
from hpc.tune.trial import Controller, Trial

__all__ = ["PopulationBasedTraining", "PopulationBasedTrainingReplay"]

WAITING = (Trial.PENDING, Trial.PAUSED)


@dataclass
class Member:
    """What is known of a trial. saved: when it was last looked at it was one of the best, and saved for the others."""

    first_tag: str
    score: float | None = None
    saved: bool = False
    perturbed_at: float = 0
    trained_to: float = 0


class PopulationBasedTraining(JudgingScheduler):
    """All trials are one population. Where they do not all fit in at once, they take turns by their progress.

    Every perturbation_interval of time_attr, not before burn_in_period, a trial is compared with all that run or wait.
    One of the best quantile_fraction saves. One of the worst becomes a copy of one of the best that has saved. It goes
    on from that one's latest checkpoint, with a configuration that is explored from that one's. synch=True: trials wait
    for each other at each interval, and are compared when all are there.

    hyperparam_mutations: for each key a list, a domain, a function, or a dict of these; missing values of trials are
    drawn by them. Values of a list move to a neighbour, numbers are multiplied by one of perturbation_factors, and each
    is drawn anew with resample_probability. custom_explore_fn: is given the explored configuration, returns a better
    one. stay_in_domain: products do not leave their domain, which with Ray they do.

    log_config: write `pbt_global.txt` and `pbt_policy_ID.txt` to the experiment's folder. require_attrs=False: results
    without time_attr or the metric are ignored, instead of RuntimeError.
    """

    kept: tuple[str, ...] = ("_members", "_next_sync", "_num_checkpoints", "_num_perturbations", "_dice")

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        perturbation_interval: float = 60.0,
        burn_in_period: float = 0.0,
        hyperparam_mutations: dict[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        resample_probability: float = 0.25,
        perturbation_factors: tuple[float, float] = (1.2, 0.8),
        custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
        stay_in_domain: bool = False,
    ) -> None:
        mutations = hyperparam_mutations or {}
        pbt_explore.check(mutations)
        if not mutations and not custom_explore_fn:
            raise TuneError("population based training needs hyperparam_mutations or a custom_explore_fn")
        if not 0 <= quantile_fraction <= 0.5:
            raise ValueError(f"quantile_fraction must be from 0 to 0.5, not {quantile_fraction}")
        if not perturbation_interval > 0:
            raise ValueError(f"perturbation_interval must be above 0, not {perturbation_interval}")
        super().__init__(metric, mode)
        self._time_attr = time_attr
        self._interval = perturbation_interval
        self._burn_in_period = burn_in_period
        self._mutations = mutations
        self._quantile_fraction = quantile_fraction
        self._resample_probability = resample_probability
        self._factors = tuple(perturbation_factors)
        self._custom_explore_fn = custom_explore_fn
        self._log_config = log_config
        self._require_attrs = require_attrs
        self._synch = synch
        self._stay_in_domain = stay_in_domain
        self._members: dict[str, Member] = {}
        self._next_sync = max(perturbation_interval, burn_in_period)
        self._num_checkpoints = 0
        self._num_perturbations = 0
        self._dice = pbt_explore.Dice(own_generator())

    # -------------------------------------------------------------- what happens to trials

    def on_trial_add(self, controller: Controller, trial: Trial) -> None:
        """Take in a trial, and draw what its configuration lacks. ValueError where a searcher makes configurations."""
        if getattr(controller.search_alg, "searcher", None) is not None:
            raise ValueError(
                f"{type(self).__name__} changes configurations while trials run, and a search algorithm would not know "
                "of it: leave search_alg out"
            )
        super().on_trial_add(controller, trial)
        known = self._members.get(trial.trial_id)
        self._members[trial.trial_id] = Member(known.first_tag if known else trial.experiment_tag)
        self._fill(trial)

    def _fill(self, trial: Trial) -> None:
        for key in pbt_explore.fill(trial.config, self._mutations, self._dice):
            trial.evaluated_params[key] = trial.config[key]

    def on_trial_result(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> str:
        """Compare a trial with the others, once in an interval."""
        metric = str(self._metric)
        missing = [name for name in (self._time_attr, metric) if name not in result]
        if missing and self._require_attrs:
            raise RuntimeError(
                f"trial {trial.trial_id} reported no {' and no '.join(map(repr, missing))}, which "
                f"{type(self).__name__} needs in each result; require_attrs=False ignores results without it"
            )
        if missing:
            return TrialScheduler.CONTINUE
        time, member = result[self._time_attr], self._members[trial.trial_id]
        if time < self._burn_in_period or time - member.perturbed_at < self._interval:
            return TrialScheduler.CONTINUE
        self._save_trial_state(member, time, result, trial)
        if self._synch:
            if any(self._lags(other) for other in controller.get_live_trials() if other is not trial):
                return TrialScheduler.PAUSE
            return TrialScheduler.NOOP if self._perturb_all(controller, time, trial) else TrialScheduler.PAUSE
        member.perturbed_at = time
        lower, upper = self._quantiles(controller)
        others_wait = any(other.status in WAITING for other in controller.get_live_trials() if other is not trial)
        if self._save_or_exploit(controller, trial, lower, upper):
            return TrialScheduler.NOOP
        return TrialScheduler.PAUSE if others_wait else TrialScheduler.CONTINUE

    def _save_trial_state(self, member: Member, time: float, result: dict[str, Any], trial: Trial) -> float:
        """Note how far a trial has come, and how good it is."""
        member.score = (self._metric_op or 1.0) * result[str(self._metric)]
        member.trained_to = time
        return member.score

    def choose_trial_to_run(self, controller: Controller) -> Trial | None:
        """The one that has trained least. With synch, of those that have not come as far as all are to come."""
        live = list(controller.get_live_trials())
        chosen = self._least_trained(live)
        if chosen is None and self._synch and live and all(trial.status == Trial.PAUSED for trial in live):
            # The last one that the others waited for has ended.
            self._perturb_all(controller, max(self._members[trial.trial_id].trained_to for trial in live), None)
            chosen = self._least_trained(live)
        return chosen

    def _least_trained(self, trials: list[Trial]) -> Trial | None:
        may = [one for one in trials if one.status in WAITING and (not self._synch or self._lags(one))]
        return min(may, key=lambda trial: self._members[trial.trial_id].trained_to, default=None)

    # -------------------------------------------------------------- the best and the worst

    def _lags(self, trial: Trial) -> bool:
        return self._members[trial.trial_id].trained_to < self._next_sync

    def _quantiles(self, controller: Controller) -> tuple[list[Trial], list[Trial]]:
        """The worst and the best of those that have a score and have not ended; the worst and the best come last."""
        found = []
        for trial_id, member in self._members.items():
            scored = member.score is not None and not math.isnan(member.score)
            trial = controller.get_trial(trial_id) if scored else None
            if trial is not None and not trial.is_finished():
                found.append(trial)
        found.sort(key=lambda trial: self._members[trial.trial_id].score or 0.0)
        if len(found) <= 1:
            return [], []
        count = min(math.ceil(len(found) * self._quantile_fraction), len(found) // 2)
        return found[:count], found[len(found) - count :]

    def _perturb_all(self, controller: Controller, time: float, current: Trial | None) -> bool:
        """Compare all trials, the best first, so that they have saved. Says whether the current one is a clone."""
        lower, upper = self._quantiles(controller)
        others = [trial for trial in controller.get_trials() if trial not in lower and trial not in upper]
        cloned = []
        for trial in [*upper, *others, *lower]:
            self._members[trial.trial_id].perturbed_at = time
            if self._save_or_exploit(controller, trial, lower, upper):
                cloned.append(trial)
        furthest = max(self._members[trial.trial_id].trained_to for trial in controller.get_trials())
        self._next_sync = max(self._next_sync + self._interval, furthest)
        return current in cloned

    def _save_or_exploit(self, controller: Controller, trial: Trial, lower: list[Trial], upper: list[Trial]) -> bool:
        """Save one of the best, clone one of the best into one of the worst. Says whether it is a clone now."""
        member = self._members[trial.trial_id]
        member.saved = trial in upper
        if member.saved:
            self._num_checkpoints += 1
            if trial.status != Trial.PAUSED:
                controller.save_trial(trial)
        return trial in lower and self._exploit(controller, trial, self._dice.own.choice(upper))

    def _exploit(self, controller: Controller, trial: Trial, donor: Trial) -> bool:
        """Let a trial go on as a changed copy of the donor, if that one has saved. Says whether it does."""
        member, model = self._members[trial.trial_id], self._members[donor.trial_id]
        if not model.saved or (donor.checkpoint is None and not donor.is_saving):
            return False
        config, _ = self._get_new_config(trial, donor)
        tag = f"{member.first_tag}@perturbed[{_said(config, self._mutations)}]"
        steps = [one.last_result.get("training_iteration", 0) for one in (trial, donor)]
        line = [member.first_tag, model.first_tag, *steps, donor.config, config]
        if not controller.exploit(trial, donor, config, tag):
            return False
        if self._log_config and (folder := pbt_policy.folder_of(controller, trial)):
            pbt_policy.append(folder, trial.trial_id, donor.trial_id, line)
        self._num_perturbations += 1
        member.perturbed_at, member.trained_to = model.perturbed_at, model.trained_to
        return True

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[dict[str, Any], dict[str, Any]]:
        """The configuration that a trial goes on with as a clone of another one, and how each value was made."""
        config, operations = pbt_explore.explore(
            trial_to_clone.config,
            self._mutations,
            self._dice,
            resample_probability=self._resample_probability,
            factors=self._factors,
            stay_in_domain=self._stay_in_domain,
        )
        return pbt_explore.explored(config, self._custom_explore_fn), operations

    def debug_string(self) -> str:
        """How often trials were saved and cloned."""
        return f"PopulationBasedTraining: {self._num_checkpoints} checkpoints, {self._num_perturbations} perturbs"


def _said(config: dict[str, Any], mutations: dict[str, Any]) -> str:
    return values_text({("config", key): config[key] for key in mutations})
