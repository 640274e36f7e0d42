"""What ends trials, and whole experiments, by their results: Ray's stoppers, with their defaults.

A stopper is pickled with the experiment and goes on where it was.
"""

from __future__ import annotations

import datetime
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Stopper:
    """The base of stoppers. Each result is given to it, and after it ``stop_all`` is asked."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether this trial is to stop."""
        raise NotImplementedError

    def stop_all(self) -> bool:
        """Whether the whole experiment is to stop."""
        raise NotImplementedError


class NoopStopper(Stopper):
    """Stops nothing."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """False."""
        return False

    def stop_all(self) -> bool:
        """False."""
        return False


class CombinedStopper(Stopper):
    """Several stoppers: any of them stops. Those after it are not asked then."""

    def __init__(self, *stoppers: Stopper) -> None:
        self._stoppers = stoppers

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether any stops this trial."""
        return any(stopper(trial_id, result) for stopper in self._stoppers)

    def stop_all(self) -> bool:
        """Whether any stops the experiment."""
        return any(stopper.stop_all() for stopper in self._stoppers)


class FunctionStopper(NoopStopper):
    """Stops the trials for which ``function(trial_id, result)`` is true."""

    def __init__(self, function: Callable[[str, dict[str, Any]], bool]) -> None:
        self._fn = function

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the function is true."""
        return self._fn(trial_id, result)

    @classmethod
    def is_valid_function(cls, fn: Any) -> bool:
        """Whether this is a function, and no stopper. Raises ValueError for what looks like a stopper and is none."""
        is_function = callable(fn) and not isinstance(fn, Stopper)
        if is_function and hasattr(fn, "stop_all"):
            raise ValueError(f"{type(fn).__name__} has stop_all: derive it from Stopper, so that it is taken for one")
        return is_function


class MaximumIterationStopper(NoopStopper):
    """Stops a trial at its result of this number."""

    def __init__(self, max_iter: int) -> None:
        self._max_iter = max_iter
        self._iter: dict[str, int] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial has so many results."""
        count = self._iter[trial_id] = self._iter.get(trial_id, 0) + 1
        return count >= self._max_iter


class TimeoutStopper(NoopStopper):
    """Stops the experiment this many seconds after it was first asked. Time between two drivers does not count."""

    def __init__(self, timeout: float | datetime.timedelta) -> None:
        if isinstance(timeout, datetime.timedelta):
            self._timeout_seconds = timeout.total_seconds()
        elif isinstance(timeout, (int, float)):
            self._timeout_seconds = timeout
        else:
            raise ValueError(f"timeout must be a number of seconds or a timedelta, not {type(timeout).__name__}")
        self._budget = self._timeout_seconds
        self._last_check: float | None = None

    def stop_all(self) -> bool:
        """Whether the time is over."""
        now = time.time()
        if self._last_check is not None:
            self._budget -= now - self._last_check
        self._last_check = now
        return self._budget <= 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _last_check=None)


class TrialPlateauStopper(NoopStopper):
    """Stops a trial whose last num_results values of the metric vary less than std, after grace_period results.

    metric_threshold: only once the metric is as good as this, by mode.
    """

    def __init__(
        self,
        metric: str,
        std: float = 0.01,
        num_results: int = 4,
        grace_period: int = 4,
        metric_threshold: float | None = None,
        mode: str | None = None,
    ) -> None:
        if metric_threshold and mode not in ("min", "max"):
            raise ValueError(f'with a metric_threshold, mode must be "min" or "max", not {mode!r}')
        self._metric = metric
        self._mode = mode
        self._std = std
        self._num_results = num_results
        self._grace_period = grace_period
        self._metric_threshold = metric_threshold
        self._iter: dict[str, int] = {}
        self._trial_results: dict[str, deque[Any]] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial has a plateau."""
        value = result.get(self._metric)
        values = self._trial_results.setdefault(trial_id, deque(maxlen=self._num_results))
        values.append(value)
        count = self._iter[trial_id] = self._iter.get(trial_id, 0) + 1
        if count < self._grace_period or len(values) < self._num_results:
            return False
        if self._metric_threshold is not None and value is not None:
            if self._mode == "min" and value > self._metric_threshold:
                return False
            if self._mode == "max" and value < self._metric_threshold:
                return False
        return _deviation(values) < self._std


class ExperimentPlateauStopper(Stopper):
    """Stops the experiment when its top values of the metric vary no more than std, for more than patience results."""

    def __init__(self, metric: str, std: float = 0.001, top: int = 10, mode: str = "min", patience: int = 0) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'mode must be "min" or "max", not {mode!r}')
        if not isinstance(top, int) or top <= 1:
            raise ValueError(f"top must be an integer above 1, not {top!r}")
        if not isinstance(patience, int) or patience < 0:
            raise ValueError(f"patience must be an integer of at least 0, not {patience!r}")
        if not isinstance(std, float) or std <= 0:
            raise ValueError(f"std must be a float above 0, not {std!r}")
        self._mode = mode
        self._metric = metric
        self._patience = patience
        self._iterations = 0
        self._std = std
        self._top = top
        self._top_values: list[Any] = []

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the experiment has a plateau with this result."""
        values = sorted([*self._top_values, result[self._metric]])
        self._top_values = values[: self._top] if self._mode == "min" else values[-self._top :]
        self._iterations = self._iterations + 1 if self.has_plateaued() else 0
        return self.stop_all()

    def has_plateaued(self) -> bool:
        """Whether the top values vary no more than std."""
        return len(self._top_values) == self._top and _deviation(self._top_values) <= self._std

    def stop_all(self) -> bool:
        """Whether the plateau is long enough."""
        return self.has_plateaued() and self._iterations >= self._patience


def _deviation(values: Sequence[Any] | deque[Any]) -> float:
    """The standard deviation of the values; infinite if they are no numbers."""
    import numpy

    try:
        return float(numpy.std(list(values)))
    except (TypeError, ValueError):
        return float("inf")


def stopper_of(stop: Any) -> tuple[dict[str, float], Stopper]:
    """What ``RunConfig.stop`` says, as a dict of metrics and a stopper. None, a dict, a function, a Stopper or a list
    of Stoppers. Raises ValueError for anything else."""
    if stop is None:
        return {}, NoopStopper()
    if isinstance(stop, Mapping):
        nested = next((key for key, value in stop.items() if isinstance(value, Mapping)), None)
        if nested is not None:
            raise ValueError(f'stop={{"{nested}": {{...}}}} is nested: write the key as one, "{nested}/..."')
        return dict(stop), NoopStopper()
    if isinstance(stop, Stopper):
        return {}, stop
    if isinstance(stop, (list, tuple)):
        wrong = next((one for one in stop if not isinstance(one, Stopper)), None)
        if wrong is not None or not stop:
            raise ValueError(f"a list for stop must have Stoppers, not {wrong!r}")
        return {}, CombinedStopper(*stop)
    if FunctionStopper.is_valid_function(stop):
        return {}, FunctionStopper(stop)
    raise ValueError(f"stop must be a dict, a function, a Stopper or a list of Stoppers, not {type(stop).__name__}")
