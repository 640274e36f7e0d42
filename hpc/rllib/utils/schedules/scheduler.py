"""A setting that is a number, or a schedule: points (step, value), and lines between them."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

_FORM = "[(0, 0.001), (1e6, 0.0001), (2e6, 0.00005)]"


class PiecewiseSchedule:
    """Points (step, value) with lines between them; before the first and after the last point the value stays."""

    def __init__(self, endpoints: Sequence[Sequence[float]], outside_value: float | None = None) -> None:
        self._steps = [float(step) for step, _ in endpoints]
        self._values = [float(value) for _, value in endpoints]
        self._outside = self._values[-1] if outside_value is None else float(outside_value)
        if sorted(self._steps) != self._steps:
            raise ValueError(f"the steps of a schedule must not fall: {list(endpoints)}")

    def value(self, t: float) -> float:
        """The value at this step."""
        after = bisect.bisect_right(self._steps, t)
        if after == 0:
            return self._values[0]
        if after == len(self._steps):
            return self._outside
        left, right = self._steps[after - 1], self._steps[after]
        low, high = self._values[after - 1], self._values[after]
        return low + (high - low) * (t - left) / (right - left)

    __call__ = value


class Scheduler:
    """The current value of a setting; `update` moves it along its schedule. framework, device: taken, not used."""

    def __init__(self, fixed_value_or_schedule: Any, *, framework: str | None = "torch", device: Any = None) -> None:
        self.use_schedule = isinstance(fixed_value_or_schedule, (list, tuple))
        self._schedule = PiecewiseSchedule(fixed_value_or_schedule) if self.use_schedule else None
        self._value = fixed_value_or_schedule[0][1] if self.use_schedule else fixed_value_or_schedule

    def get_current_value(self) -> Any:
        """The value as of the last update."""
        return self._value

    def update(self, timestep: int) -> Any:
        """Move on to this step; the value there."""
        if self._schedule is not None:
            self._value = self._schedule.value(timestep)
        return self._value

    def go_on_from(self, value: Any) -> None:
        """Have the value that a schedule had in another process, until the next update; a fixed one stays."""
        if self._schedule is not None:
            self._value = value

    @staticmethod
    def validate(*, fixed_value_or_schedule: Any, setting_name: str, description: str) -> None:
        """Raise ValueError for what is neither a number nor a schedule that begins at step 0."""
        given = fixed_value_or_schedule
        if given is None or isinstance(given, (int, float)):
            return
        if not isinstance(given, (list, tuple)) or len(given) < 2:
            raise ValueError(
                f"Invalid `{setting_name}` ({given}) specified! Must be a list of 2 or more tuples, each of the form "
                f"(`timestep`, `{description} to reach`), for example `{_FORM}`."
            )
        if any(not isinstance(pair, (list, tuple)) or len(pair) != 2 for pair in given):
            raise ValueError(
                f"When providing a `{setting_name}` schedule, each tuple in the schedule list must have exactly 2 "
                f"items of the form (`timestep`, `{description} to reach`), for example `{_FORM}`."
            )
        if given[0][0] != 0:
            raise ValueError(
                f"When providing a `{setting_name}` schedule, the first timestep must be 0 and the corresponding "
                f"value is the initial {description}! You provided ts={given[0][0]} {description}={given[0][1]}."
            )
