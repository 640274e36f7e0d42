"""A rung: what trials had reached at one point of their time, the larger the better, and which of them are good."""

from __future__ import annotations

import math
from bisect import insort


def percentile(ascending: list[float], share: float) -> float:
    """The value below which this share of the values lies, between two of them by line, as numpy has it."""
    at = (len(ascending) - 1) * share
    below = math.floor(at)
    if below >= len(ascending) - 1:
        return ascending[-1]
    weight, low, high = at - below, ascending[below], ascending[below + 1]
    return high - (high - low) * (1 - weight) if weight >= 0.5 else low + (high - low) * weight


class Rung:
    """The results at one milestone. The better of two trials with the same value is the one that came first.

    NaN is recorded, and counts neither for the cutoff nor among the best.
    """

    __slots__ = ("_ascending", "_ranked", "milestone", "recorded")

    def __init__(self, milestone: float, recorded: dict[str, float] | None = None) -> None:
        self.milestone = milestone
        self.recorded: dict[str, float] = {}
        self._ascending: list[float] = []
        self._ranked: list[tuple[float, int, str]] = []
        for trial_id, value in (recorded or {}).items():
            self.record(trial_id, value)

    def record(self, trial_id: str, value: float) -> None:
        """Note what a trial had here. It is asked once for each trial."""
        if not math.isnan(value):
            insort(self._ascending, value)
            insort(self._ranked, (-value, len(self.recorded), trial_id))
        self.recorded[trial_id] = value

    def cutoff(self, reduction_factor: float) -> float | None:
        """What a new value must reach to be of the best 1/reduction_factor; None: there is nothing to compare with."""
        if not self._ascending:
            return math.nan if self.recorded else None
        return percentile(self._ascending, (1 - 1 / reduction_factor) * 100 / 100)

    def best(self, reduction_factor: float) -> list[str]:
        """The best 1/reduction_factor of all that came here, rounded down, the best first."""
        return [trial_id for _, _, trial_id in self._ranked[: int(len(self.recorded) / reduction_factor)]]
