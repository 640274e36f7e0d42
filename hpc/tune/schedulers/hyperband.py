"""HyperBand: brackets of trials in which the worst are stopped together, when all have come to a milestone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from hpc.tune.schedulers.hyperband_bracket import Bracket, from_state, made
from hpc.tune.schedulers.judging import JudgingScheduler, need
from hpc.tune.schedulers.trial_scheduler import TrialScheduler
from hpc.tune.trial import Controller, Trial


class HyperBandScheduler(JudgingScheduler):
    """Trials fill brackets, brackets make bands, and new bands begin as long as trials come.

    In a bracket all trials run up to a milestone and pause there. When all live ones are there, the best
    1/reduction_factor go on, to a milestone that is reduction_factor times as far, up to max_t. A bracket need not be
    full for that. Trials must save when they pause; results cannot be buffered.

    time_attr: the result's measure of progress. max_t: no trial goes further, unless stop_last_trials=False.
    reduction_factor: of so many trials one goes on.
    """

    _supports_buffered_results = False
    kept = ("_num_stopped",)
    #: Whether a band begins with the bracket of the most, shortest trials.
    largest_first = False
    #: Whether a bracket that has begun is halved as soon as it can be; else when it is full, or nothing runs.
    eager = True

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | None = None,
        mode: str | None = None,
        max_t: int = 81,
        reduction_factor: float = 3,
        stop_last_trials: bool = True,
    ) -> None:
        need(max_t > 0, f"max_t must be above 0, not {max_t}")
        need(reduction_factor > 1, f"reduction_factor must be above 1, not {reduction_factor}")
        super().__init__(metric, mode)
        self._time_attr = time_attr
        self._max_t = max_t
        self._factor = reduction_factor
        self._stop_last_trials = stop_last_trials
        self._brackets_of_a_band = round(math.log(max_t) / math.log(reduction_factor)) + 1
        #: Bands of brackets; None stands for one whose trials would be too short.
        self._bands: list[list[Bracket | None]] = [[]]
        self._of_trial: dict[str, Bracket] = {}
        self._num_stopped = 0

    # -------------------------------------------------------------- where trials go

    def on_trial_add(self, controller: Controller, trial: Trial) -> None:
        """Put a trial into the bracket that is being filled, or into a new one."""
        super().on_trial_add(controller, trial)
        filling = self._bands[-1][-1] if self._bands[-1] else None
        while filling is None or filling.filled():
            filling = self._next_bracket()
        filling.add(trial.trial_id)
        self._of_trial[trial.trial_id] = filling

    def _next_bracket(self) -> Bracket | None:
        if len(self._bands[-1]) == self._brackets_of_a_band:
            self._bands.append([])
        s = len(self._bands[-1])
        if self.largest_first:
            s = self._brackets_of_a_band - 1 - s
        bracket = made(s, self._brackets_of_a_band, self._max_t, self._factor, self._stop_last_trials)
        self._bands[-1].append(bracket)
        return bracket

    def choose_trial_to_run(self, controller: Controller) -> Trial | None:
        """The first that may run in the bracket that is the least complete, of the earliest band that has one."""
        if self.eager:
            for bracket in [one for band in self._bands for one in band if one is not None and one.look_again]:
                bracket.look_again = False
                self._process(controller, bracket, None)
        for band in self._bands:
            for bracket in self._in_order(band):
                for trial_id in bracket.reached:
                    trial = controller.get_trial(trial_id)
                    if trial is not None and _may_run(trial, bracket):
                        return trial
        return None

    def _in_order(self, band: list[Bracket | None]) -> list[Bracket]:
        return sorted((one for one in band if one is not None), key=Bracket.completion)

    # -------------------------------------------------------------- results

    def on_trial_result(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> str:
        """Let a trial go on up to the milestone, and pause it there; the last one to come has the bracket halved."""
        bracket = self._noted(trial, result)
        if bracket is None or bracket.goes_on(trial.trial_id):
            return TrialScheduler.CONTINUE
        return self._process(controller, bracket, trial)

    def _noted(self, trial: Trial, result: dict[str, Any]) -> Bracket | None:
        """The trial's bracket, which has noted the result; None: the result, or the trial, is none to decide on."""
        bracket = self._of_trial.get(trial.trial_id)
        if bracket is None or trial.trial_id not in bracket.reached:
            return None
        if self._time_attr not in result or self._metric not in result:
            return None
        score = (self._metric_op or 1.0) * result[self._metric]
        bracket.note(trial.trial_id, result[self._time_attr], score)
        return bracket

    def _process(self, controller: Controller, bracket: Bracket, current: Trial | None) -> str:
        """Halve a bracket whose trials are all at the milestone. Says how the current trial goes on."""
        action = TrialScheduler.PAUSE
        bracket.halving = True
        try:
            while bracket.all_there():
                if bracket.finished():
                    for trial_id in list(bracket.reached):
                        self._stop(controller, bracket, trial_id, current)
                    return TrialScheduler.STOP
                bracket.begun = True
                good, bad = bracket.halve()
                self._num_stopped += len(bad)
                for trial_id in bad:
                    action = self._stop(controller, bracket, trial_id, current) or action
                for trial_id in good:
                    action = self._ready(controller, bracket, trial_id, current) or action
                # Trials that are beyond the new milestone already wait there, if there is anyone to wait for.
                if not (self.eager and bracket.reached) or any(map(bracket.goes_on, bracket.reached)):
                    break
        finally:
            bracket.halving = False
        return action

    def _stop(self, controller: Controller, bracket: Bracket, trial_id: str, current: Trial | None) -> str | None:
        """End a trial; STOP for the current one, which ends by that answer."""
        if current is not None and trial_id == current.trial_id:
            bracket.drop(trial_id)
            return TrialScheduler.STOP
        trial = controller.get_trial(trial_id)
        if trial is not None and not trial.is_finished():
            controller.stop_trial(trial)
        bracket.drop(trial_id)
        return None

    def _ready(self, controller: Controller, bracket: Bracket, trial_id: str, current: Trial | None) -> str | None:
        """Let a good trial go on if it is not too far ahead, and end it if the bracket is done.

        For the current one by the answer.
        """
        trial = controller.get_trial(trial_id)
        if trial is None or trial.is_finished():
            bracket.drop(trial_id)
        elif not bracket.goes_on(trial_id):
            return self._stop(controller, bracket, trial_id, current) if bracket.finished() else None
        elif current is not None and trial_id == current.trial_id:
            return TrialScheduler.CONTINUE
        elif trial.status == Trial.PAUSED or trial.is_saving:
            self._unpause_trial(controller, trial)
        return None

    def _unpause_trial(self, controller: Controller, trial: Trial) -> None:
        """A paused trial will go on."""

    # -------------------------------------------------------------- ends

    def on_trial_remove(self, controller: Controller, trial: Trial) -> None:
        """Take a trial out of its bracket, which may be the last one that the others have waited for."""
        bracket = self._of_trial.get(trial.trial_id)
        if bracket is None:
            return
        bracket.drop(trial.trial_id)
        if not bracket.halving:
            if bracket.begun or bracket.finished():
                bracket.look_again = True  # Not now: a trial that has failed may come back to it at once.
            else:
                self._process(controller, bracket, None)

    def on_trial_complete(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> None:
        """Take a trial out of its bracket."""
        self.on_trial_remove(controller, trial)

    def on_trial_error(self, controller: Controller, trial: Trial) -> None:
        """Take a trial out of its bracket. If it begins again, it comes to the bracket that is then being filled."""
        self.on_trial_remove(controller, trial)

    # -------------------------------------------------------------- for people, and for the journal

    def debug_string(self) -> str:
        """The brackets of each round, and how far they are."""
        count = sum(len(band) for band in self._bands)
        lines = [f"Using HyperBand: num_stopped={self._num_stopped} total_brackets={count}"]
        for number, band in enumerate(self._bands):
            lines.append(f"Round #{number}:")
            lines += [f"  {one}" for one in band if one is not None]
        return "\n".join(lines)

    def state(self) -> dict[str, Any]:
        """All brackets with their trials, and the counts that Ray's state() has."""
        bands = [[one and dataclasses.asdict(one) for one in band] for band in self._bands]
        places = [
            (number, at, one)
            for number, band in enumerate(self._bands)
            for at, one in enumerate(band)
            if one is not None
        ]
        where = {id(one): (number, at) for number, at, one in places}
        of_trial = {trial_id: where[id(one)] for trial_id, one in self._of_trial.items()}
        counts = {"num_brackets": sum(len(band) for band in self._bands), "num_stopped": self._num_stopped}
        return {**super().state(), **counts, "bands": bands, "of_trial": of_trial}

    def load(self, state: dict[str, Any], get_trial: Callable[[str], Trial | None] | None = None) -> None:
        """Go on from a `state()`."""
        super().load(state, get_trial)
        self._bands = [[from_state(one) for one in band] for band in state["bands"]]
        found = {trial_id: self._bands[number][at] for trial_id, (number, at) in state["of_trial"].items()}
        self._of_trial = {trial_id: one for trial_id, one in found.items() if one is not None}


def _may_run(trial: Trial, bracket: Bracket) -> bool:
    waits = trial.status == Trial.PAUSED and bracket.goes_on(trial.trial_id)
    return waits or trial.status == Trial.PENDING
