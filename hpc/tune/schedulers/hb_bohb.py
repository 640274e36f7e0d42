"""HyperBand as BOHB needs it: the largest bracket is filled first, and trials pause while the searcher adds more."""

from __future__ import annotations

from typing import Any

from hpc.tune.schedulers.hyperband import HyperBandScheduler
from hpc.tune.schedulers.hyperband_bracket import Bracket
from hpc.tune.schedulers.trial_scheduler import TrialScheduler
from hpc.tune.trial import Controller, Trial


class HyperBandForBOHB(HyperBandScheduler):
    """HyperBand for the searcher TuneBOHB. Arguments are those of HyperBandScheduler.

    The bracket with the most trials is filled first. A bracket is halved when it is full and all of its trials are
    paused, or when nothing runs. Results get `hyperband_info`, whose "budget" is the milestone that a trial has come
    to. The searcher is told by `on_pause` and `on_unpause`, if it has them, so that it can count the trials that run.
    """

    largest_first = True
    eager = False

    def on_trial_result(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> str:
        """Let a trial go on up to the milestone, and pause it there."""
        result["hyperband_info"] = {}
        bracket = self._noted(trial, result)
        if bracket is None or bracket.goes_on(trial.trial_id):
            return TrialScheduler.CONTINUE
        result["hyperband_info"]["budget"] = bracket.milestone
        action = TrialScheduler.PAUSE
        if bracket.filled() and self._others_wait(controller, bracket, trial):
            action = self._process(controller, bracket, trial)
        if action == TrialScheduler.PAUSE:
            _tell_searcher(controller, "on_pause", trial)
        return action

    def _others_wait(self, controller: Controller, bracket: Bracket, current: Trial) -> bool:
        others = [controller.get_trial(trial_id) for trial_id in bracket.reached if trial_id != current.trial_id]
        return all(trial is None or trial.status == Trial.PAUSED or trial.is_saving for trial in others)

    def _unpause_trial(self, controller: Controller, trial: Trial) -> None:
        _tell_searcher(controller, "on_unpause", trial)

    def _in_order(self, band: list[Bracket | None]) -> list[Bracket]:
        return [one for one in band if one is not None]

    def choose_trial_to_run(self, controller: Controller) -> Trial | None:
        """The first that may run. If none may and none runs, brackets with paused trials are halved as they are."""
        chosen = super().choose_trial_to_run(controller)
        if chosen is not None or any(trial.status == Trial.RUNNING for trial in controller.get_live_trials()):
            return chosen
        for bracket in [one for band in self._bands for one in band if one is not None]:
            if any(trial.status == Trial.PAUSED for trial in self._trials(controller, bracket)):
                self._process(controller, bracket, None)
                chosen = super().choose_trial_to_run(controller)
                if chosen is not None:
                    break
        return chosen

    def _trials(self, controller: Controller, bracket: Bracket) -> list[Trial]:
        found = [controller.get_trial(trial_id) for trial_id in bracket.reached]
        return [trial for trial in found if trial is not None]


def _tell_searcher(controller: Controller, what: str, trial: Trial) -> None:
    """Call this method of the searcher with the trial's id, if it has one."""
    searcher = getattr(controller.search_alg, "searcher", None)
    told = getattr(searcher, what, None)
    if told is not None:
        told(trial.trial_id)
