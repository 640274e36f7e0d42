"""The median stopping rule: a trial that has never been as good as the others are on average is stopped."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from hpc.tune.schedulers.judging import JudgingScheduler
from hpc.tune.schedulers.trial_scheduler import TrialScheduler
from hpc.tune.trial import Controller, Trial


class History:
    """The results of one trial that count, by time. best: of all of them, also of those before the grace period."""

    __slots__ = ("best", "last_time", "sums", "times")

    def __init__(self, first: float) -> None:
        self.best = first
        self.last_time = -math.inf
        self.times: list[float] = []
        #: The sums of the first so many values.
        self.sums: list[float] = [0.0]

    def add(self, time: float, value: float) -> None:
        """Put in a result. One of a time before the latest comes from a trial that began again."""
        at = bisect_right(self.times, time)
        self.times.insert(at, time)
        self.sums.insert(at + 1, self.sums[at] + value)
        for later in range(at + 2, len(self.sums)):
            self.sums[later] += value

    def mean_until(self, time: float) -> float:
        """The mean of the values up to this time; NaN without any."""
        count = bisect_right(self.times, time)
        return self.sums[count] / count if count else math.nan


class MedianStoppingRule(JudgingScheduler):
    """Compares a trial's best result so far with the median of the others' running means up to the same time.

    time_attr: the result's measure of progress. Results without it or the metric decide nothing. grace_period: results
    before it do not count, and none is stopped before. min_samples_required: others that must have come as far; with
    fewer a trial goes on. min_time_slice: then it makes way for trials that wait, each time it has run for longer.
    hard_stop=False: trials pause instead of being stopped, and go on when no other one waits.
    """

    kept = ("_stopped", "_last_pause", "_results")

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        grace_period: float = 60.0,
        min_samples_required: int = 3,
        min_time_slice: int = 0,
        hard_stop: bool = True,
    ) -> None:
        super().__init__(metric, mode)
        self._time_attr = time_attr
        self._grace_period = grace_period
        self._min_samples_required = min_samples_required
        self._min_time_slice = min_time_slice
        self._hard_stop = hard_stop
        self._stopped: set[str] = set()
        self._last_pause: dict[str, float] = {}
        self._results: dict[str, History] = {}

    # -------------------------------------------------------------- results

    def on_trial_result(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> str:
        """Stop a trial whose best result is strictly worse than the median of the others' means."""
        if self._time_attr not in result or self._metric not in result or trial.trial_id in self._stopped:
            return TrialScheduler.CONTINUE
        time = result[self._time_attr]
        own = self._note(trial, result)
        if time < self._grace_period:
            return TrialScheduler.CONTINUE
        means = [
            mean
            for trial_id, other in self._results.items()
            if trial_id != trial.trial_id and other.last_time >= time
            for mean in (other.mean_until(time),)
            if math.isfinite(mean)
        ]
        if len(means) < self._min_samples_required:
            return self._make_way(controller, trial, time)
        if self._best(_median(means), own.best) == own.best:
            return TrialScheduler.CONTINUE
        self._stopped.add(trial.trial_id)
        return TrialScheduler.STOP if self._hard_stop else TrialScheduler.PAUSE

    def on_trial_complete(self, controller: Controller, trial: Trial, result: dict[str, Any]) -> None:
        """What a trial had at its end counts for the others."""
        if self._time_attr in result and self._metric in result:
            self._note(trial, result)

    @property
    def _best(self) -> Callable[..., float]:
        return max if self._mode == "max" else min

    def _note(self, trial: Trial, result: dict[str, Any]) -> History:
        time, value = result[self._time_attr], result[str(self._metric)]
        history = self._results.get(trial.trial_id)
        if history is None:
            history = self._results[trial.trial_id] = History(value)
        history.best = self._best(history.best, value)
        history.last_time = time
        if time >= self._grace_period:
            history.add(time, value)
        return history

    def _make_way(self, controller: Controller, trial: Trial, time: float) -> str:
        waiting = (Trial.PENDING, Trial.PAUSED)
        if time - self._last_pause.get(trial.trial_id, -math.inf) > self._min_time_slice and any(
            other.status in waiting for other in controller.get_live_trials()
        ):
            self._last_pause[trial.trial_id] = time
            return TrialScheduler.PAUSE
        return TrialScheduler.CONTINUE

    def debug_string(self) -> str:
        """How many trials it has stopped."""
        return f"Using MedianStoppingRule: num_stopped={len(self._stopped)}."


def _median(values: list[float]) -> float:
    ascending, middle = sorted(values), len(values) // 2
    if len(values) % 2:
        return ascending[middle]
    return (ascending[middle - 1] + ascending[middle]) / 2
