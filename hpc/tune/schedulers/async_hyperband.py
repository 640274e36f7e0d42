"""ASHA, asynchronous successive halving: trials are judged at rungs, each by what others had when they were there.

By default a trial that is not of the best at a rung is stopped. With promote=True it is paused instead, and goes on
when it is of the best of those that have come there since. Promotions then come before new trials.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hpc.tune.schedulers.judging import JudgingScheduler, need, own_generator
from hpc.tune.schedulers.rungs import Rung
from hpc.tune.schedulers.trial_scheduler import TrialScheduler
from hpc.tune.trial import Controller, Trial


class AsyncHyperBandScheduler(JudgingScheduler):
    """Asynchronous successive halving, in one bracket or in several.

    time_attr: the result's measure of progress, which must not fall. Results without it or the metric decide nothing.
    max_t: trials end there (stop_last_trials=False: they go on to their own end). grace_period: none is judged before.
    reduction_factor: of so many trials one goes on at each rung, and rungs lie so many times further apart.
    brackets: bracket s leaves out the first s rungs; trials are dealt out at random, most to those with most rungs.
    promote: pause trials at rungs instead of stopping them, and let them go on once they are of the best there. Trials
    must save for it. When no trial runs or waits and no further one can come, paused trials are stopped.
    """

    kept = ("_rungs_of_trials", "_num_stopped", "_generator")

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | None = None,
        mode: str | None = None,
        max_t: int = 100,
        grace_period: int = 1,
        reduction_factor: float = 4,
        brackets: int = 1,
        stop_last_trials: bool = True,
        promote: bool = False,
    ) -> None:
        need(max_t > 0, f"max_t must be above 0, not {max_t}")
        need(grace_period > 0, f"grace_period must be above 0, not {grace_period}")
        need(max_t >= grace_period, f"grace_period ({grace_period}) must not be above max_t ({max_t})")
        need(reduction_factor > 1, f"reduction_factor must be above 1, not {reduction_factor}")
        need(brackets > 0, f"brackets must be above 0, not {brackets}")
        super().__init__(metric, mode)
        if promote:
            self._supports_buffered_results = False
        self._time_attr = time_attr
        self._max_t = max_t
        self._reduction_factor = reduction_factor
        self._stop_last_trials = stop_last_trials
        self._promote = promote
        self._brackets = [self._milestones(grace_period, s) for s in range(brackets)]
        #: How far the draws of brackets are: the sums of their chances.
        self._chances = _softmax([len(rungs) for rungs in self._brackets])
        #: The bracket of each trial that has not ended.
        self._rungs_of_trials: dict[str, int] = {}
        self._num_stopped = 0
        self._generator = own_generator()

    def _milestones(self, grace_period: float, s: int) -> list[Rung]:
        """The rungs of bracket s, the last one first."""
        factor = self._reduction_factor
        count = int(np.log(self._max_t / grace_period) / np.log(factor) - s + 1)
        return [Rung(grace_period * factor ** (k + s)) for k in reversed(range(count))]

    # -------------------------------------------------------------- what happens to trials

    def on_trial_add(self, controller: Controller, trial: Trial) -> None:
        """Draw the bracket of a trial."""
        super().on_trial_add(controller, trial)
        drawn = self._generator.random()
        self._rungs_of_trials[trial.trial_id] = sum(chance <= drawn for chance in self._chances)

    def on_trial_result(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> str:
        """Judge a trial at the last rung that it has reached, if it has not been judged there."""
        if self._time_attr not in result or self._metric not in result:
            return TrialScheduler.CONTINUE
        time, value = result[self._time_attr], result[self._metric]
        if time >= self._max_t and self._stop_last_trials:
            action = TrialScheduler.STOP
        else:
            judge = self._pause_or_promote if self._promote else self._stop_or_go_on
            action = judge(trial.trial_id, time, self._score(value))
        self._num_stopped += action == TrialScheduler.STOP
        return action

    def _score(self, value: float) -> float:
        return (self._metric_op or 1.0) * value

    def on_trial_complete(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> None:
        """What a trial had at its end counts for those that come after it."""
        if self._time_attr in result and self._metric in result:
            time, value = result[self._time_attr], result[self._metric]
            (self._record_passed if self._promote else self._stop_or_go_on)(trial.trial_id, time, self._score(value))
            self._rungs_of_trials.pop(trial.trial_id, None)

    def on_trial_remove(self, controller: Controller, trial: Trial) -> None:
        """Forget its bracket. What it had at rungs stays."""
        self._rungs_of_trials.pop(trial.trial_id, None)

    # -------------------------------------------------------------- the two kinds

    def _bracket(self, trial_id: str) -> list[Rung]:
        return self._brackets[self._rungs_of_trials.get(trial_id, 0)]

    def _stop_or_go_on(self, trial_id: str, time: float, score: float) -> str:
        for rung in self._bracket(trial_id):
            if time < rung.milestone:
                continue
            if trial_id in rung.recorded:
                if not self._stop_last_trials:
                    break
                continue
            cutoff = rung.cutoff(self._reduction_factor)
            rung.record(trial_id, score)
            return TrialScheduler.STOP if cutoff is not None and score < cutoff else TrialScheduler.CONTINUE
        return TrialScheduler.CONTINUE

    def _record_passed(self, trial_id: str, time: float, score: float) -> Rung | None:
        """Record it at all rungs that it has reached or jumped over; returns the last of them, if that is a new one."""
        reached = [rung for rung in self._bracket(trial_id) if time >= rung.milestone]
        newest = reached[0] if reached and trial_id not in reached[0].recorded else None
        for rung in reached:
            if trial_id not in rung.recorded:
                rung.record(trial_id, score)
        return newest

    def _pause_or_promote(self, trial_id: str, time: float, score: float) -> str:
        rung = self._record_passed(trial_id, time, score)
        if rung is None or trial_id in rung.best(self._reduction_factor):
            return TrialScheduler.CONTINUE
        return TrialScheduler.PAUSE

    def choose_trial_to_run(self, controller: Controller) -> Trial | None:
        """First come, first served; with promote=True a paused trial that is of the best at its rung comes first."""
        if not self._promote:
            return super().choose_trial_to_run(controller)
        for trial in self._promotable(controller):
            return trial
        live = list(controller.get_live_trials())
        for trial in live:
            if trial.status == Trial.PENDING:
                return trial
        if any(trial.status == Trial.RUNNING for trial in live):
            return None
        paused = [trial for trial in live if trial.status == Trial.PAUSED]
        if _no_more_come(controller):
            for trial in paused:
                self._num_stopped += 1
                controller.stop_trial(trial)
            return None
        # Nothing runs, and what suggests trials gives none now: it may wait for one of these to end.
        return min(paused, key=self._distance_from_the_top, default=None)

    def _promotable(self, controller: Controller) -> list[Trial]:
        """The first paused trial that is of the best at its last rung, the highest rungs first; [] without one."""
        height = max(len(rungs) for rungs in self._brackets)
        for down in range(height):
            for rungs in self._brackets:
                if down < len(rungs):
                    higher = rungs[down - 1].recorded if down else {}
                    for trial_id in rungs[down].best(self._reduction_factor):
                        trial = controller.get_trial(trial_id) if trial_id not in higher else None
                        if trial is not None and trial.status == Trial.PAUSED:
                            return [trial]
        return []

    def _distance_from_the_top(self, trial: Trial) -> float:
        for rung in self._bracket(trial.trial_id):
            if trial.trial_id in rung.recorded:
                better = sum(value > rung.recorded[trial.trial_id] for value in rung.recorded.values())
                return better / len(rung.recorded)
        return math.inf

    # -------------------------------------------------------------- for people, and for the journal

    def debug_string(self) -> str:
        """How many trials it has stopped, and the cutoffs of the rungs."""
        lines = [f"Using AsyncHyperBand: num_stopped={self._num_stopped}"]
        for rungs in self._brackets:
            said = [f"Iter {rung.milestone:.3f}: {rung.cutoff(self._reduction_factor)}" for rung in rungs]
            lines.append("Bracket: " + " | ".join(said))
        return "\n".join(lines)

    def state(self) -> dict[str, Any]:
        """What trials had at each rung, and the bracket of each."""
        rungs = [{rung.milestone: dict(rung.recorded) for rung in bracket} for bracket in self._brackets]
        return {**super().state(), "rungs": rungs}

    def load(self, state: dict[str, Any], get_trial: Callable[[str], Trial | None] | None = None) -> None:
        """Go on from a `state()`. Rungs of the same milestone are the same, also where max_t was another."""
        super().load(state, get_trial)
        for bracket, kept in zip(self._brackets, state["rungs"]):
            for at, rung in enumerate(bracket):
                bracket[at] = Rung(rung.milestone, kept.get(rung.milestone))


def _softmax(sizes: list[int]) -> list[float]:
    """The sums of the chances of the brackets up to each, in proportion to e to the power of the number of rungs."""
    weights = [math.e ** (size - max(sizes)) for size in sizes]
    sums = list(itertools.accumulate(weight / sum(weights) for weight in weights))
    return [one / sums[-1] for one in sums]


def _no_more_come(controller: Controller) -> bool:
    """Whether what makes trials has ended; what never says so has, once no trial waits."""
    ended = getattr(controller.search_alg, "is_finished", None)
    return ended is None or bool(ended())


ASHAScheduler = AsyncHyperBandScheduler
