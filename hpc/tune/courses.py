"""The objective of many trials over iterations, in bounded memory: curves of the best, and bands over all. Pure."""

from __future__ import annotations

import heapq
import math

from hpc.runs.thinned import Thinned

#: Curves that are kept (twice as many at most), the points of each, and those that are shown.
MAX_CURVES, MAX_POINTS, SHOWN = 400, 40, 20
#: Steps of the bands, and values of a step that are kept.
MAX_STEPS, MAX_VALUES = 60, 96


class Step:
    """Values at one iteration or a few, of which an even sample is kept."""

    __slots__ = ("seen", "values")

    def __init__(self) -> None:
        self.values: list[float] = []
        self.seen = 0

    def add(self, value: float) -> None:
        """One more. Each has the same chance to be kept: the place follows from its number, so that runs are alike."""
        self.seen += 1
        if len(self.values) < MAX_VALUES:
            self.values.append(value)
        elif (place := self.seen * 2654435761 % (1 << 32) * self.seen >> 32) < MAX_VALUES:
            self.values[place] = value

    def join(self, other: Step) -> None:
        """Take in the values of the step behind it."""
        seen = self.seen + other.seen
        for value in other.values:
            self.add(value)
        self.seen = seen


class Courses:
    """What trials have reported of the objective. ``sign``: 1 where more is better, else -1."""

    def __init__(self, sign: float) -> None:
        self._sign = sign
        self._curves: dict[str, Thinned] = {}
        self._best: dict[str, float] = {}
        self._steps: dict[int, Step] = {}
        self._width = 1

    def add(self, trial: str, iteration: float, value: float) -> None:
        """A trial has reported."""
        if not math.isfinite(value):
            return
        curve = self._curves.get(trial)
        if curve is None:
            if len(self._curves) >= 2 * MAX_CURVES:
                self._forget()
            curve = self._curves[trial] = Thinned(MAX_POINTS)
        if curve.last is not None and iteration <= curve.last[0]:  # it goes on from an earlier checkpoint
            curve.rewind(iteration - 1)
        curve.add(iteration, value)
        self._best[trial] = max(self._sign * value, self._best.get(trial, -math.inf))
        self._steps.setdefault(int(iteration) // self._width, Step()).add(value)
        while len(self._steps) > MAX_STEPS:
            self._widen()

    def _forget(self) -> None:
        kept = set(heapq.nlargest(MAX_CURVES, self._best, key=lambda trial: self._best[trial]))
        self._curves = {trial: curve for trial, curve in self._curves.items() if trial in kept}
        self._best = {trial: best for trial, best in self._best.items() if trial in kept}

    def _widen(self) -> None:
        self._width *= 2
        joined: dict[int, Step] = {}
        for at, step in sorted(self._steps.items()):
            if at // 2 in joined:
                joined[at // 2].join(step)
            else:
                joined[at // 2] = step
        self._steps = joined

    def top(self, count: int = SHOWN) -> list[tuple[str, list[float], list[float]]]:
        """The trials with the best values, the best first, with their curves."""
        best = heapq.nlargest(count, self._best, key=lambda trial: self._best[trial])
        return [(trial, *self._curves[trial].points()) for trial in best]

    def bands(self) -> list[tuple[float, float, float, float]]:
        """At each step: the iteration, and the value below which a tenth, half and nine tenths of the values are."""
        found = []
        for at, step in sorted(self._steps.items()):
            values = sorted(step.values)
            found.append((float(at * self._width), _at(values, 0.1), _at(values, 0.5), _at(values, 0.9)))
        return found


def _at(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


def left_s(total: int | None, over: int, running: int, used_s: float, budget_s: float | None) -> float | None:
    """About how long a search takes yet, if as many trials end in a second as did until now. Half is done of those that
    run. None where nobody can know."""
    found = []
    if total is not None and over and used_s > 0:
        found.append(max(0.0, total - over - 0.5 * running) * used_s / over)
    if budget_s is not None:
        found.append(max(0.0, budget_s - used_s))
    return min(found, default=None)
