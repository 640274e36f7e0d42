"""Kernel densities over a mixed space: ranges as shares of 0 to 1, choices as places in their list."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hpc.tune.search.convert import Parameter

__all__ = ["Density", "Dimension"]


class Dimension:
    """A parameter as one axis. A normal distribution is spread over 0 to 1 by its mean and four deviations."""

    def __init__(self, parameter: Parameter):
        self.parameter = parameter
        self.values = 0 if parameter.values is None else len(parameter.values)

    def draw(self, random: np.random.Generator) -> float:
        """A place of the prior distribution."""
        if self.values:
            return float(random.integers(self.values))
        if self.parameter.sd:
            return float(np.clip(0.5 + random.normal() / 8, 0, 1))
        return float(random.random())

    def value(self, place: float) -> Any:
        """The value of the parameter at a place."""
        parameter = self.parameter
        if parameter.values is not None:
            return parameter.values[int(place)]
        if parameter.sd:
            return parameter.value(parameter.mean + (place - 0.5) * 8 * parameter.sd)
        return parameter.of_unit(place)

    def place(self, value: Any) -> float:
        """The place of a value."""
        parameter = self.parameter
        if parameter.values is not None:
            return float(parameter.place(value))
        if parameter.sd:
            return float(min(max((value - parameter.mean) / (8 * parameter.sd) + 0.5, 0.0), 1.0))
        return parameter.to_unit(value)


class Density:
    """A product of kernels around points, and the prior as one more point, so that no place is ruled out.

    The kernels are Gaussian for ranges, and Aitchison and Aitken's for choices. `least` is the least width. Few points
    have wide kernels: else the search would stay where the first good ones are.
    """

    def __init__(self, dimensions: list[Dimension], points: np.ndarray, least: float):
        self._dimensions = dimensions
        self._points = points
        count, axes = points.shape
        # The reference rule for the width of a kernel.
        reference = 1.06 * points.std(axis=0) * count ** (-1 / (4 + axes))
        self._width = np.maximum(reference, max(least, 1 / min(100, 1 + count)))
        for axis, one in enumerate(dimensions):
            if one.values:
                self._width[axis] = min(self._width[axis], (one.values - 1) / one.values)

    def log(self, places: np.ndarray) -> np.ndarray:
        """The logarithm of the density at each place."""
        total = np.zeros((len(places), len(self._points) + 1))
        for axis, one in enumerate(self._dimensions):
            apart = places[:, axis, None] - self._points[None, :, axis]
            width = self._width[axis]
            if one.values == 1:
                continue
            if one.values:
                same, other = math.log(max(1 - width, 1e-12)), math.log(max(width / (one.values - 1), 1e-12))
                total[:, :-1] += np.where(apart == 0, same, other)
                total[:, -1] -= math.log(one.values)
            else:
                total[:, :-1] += -0.5 * (apart / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))
        top = total.max(axis=1)
        result: np.ndarray = top + np.log(np.exp(total - top[:, None]).mean(axis=1))
        return result

    def draw(self, random: np.random.Generator, count: int, factor: float) -> np.ndarray:
        """Places near the points, with kernels that are wider by `factor`, and some of the prior."""
        chosen = random.integers(len(self._points) + 1, size=count)
        of_prior = chosen == len(self._points)
        drawn: np.ndarray = self._points[np.where(of_prior, 0, chosen)].copy()
        for axis, one in enumerate(self._dimensions):
            if one.values:
                other = random.random(count) < self._width[axis]
                drawn[other, axis] = random.integers(one.values, size=int(other.sum()))
            else:
                drawn[:, axis] = _truncated(random, drawn[:, axis], factor * self._width[axis])
            drawn[of_prior, axis] = [one.draw(random) for _ in range(int(of_prior.sum()))]
        return drawn


def _truncated(random: np.random.Generator, centers: np.ndarray, width: float) -> np.ndarray:
    """Normal numbers around centers between 0 and 1: those outside are drawn again, and after that cut."""
    drawn = random.normal(centers, width)
    for _ in range(20):
        outside = (drawn < 0) | (drawn > 1)
        if not outside.any():
            break
        drawn[outside] = random.normal(centers[outside], width)
    within: np.ndarray = np.clip(drawn, 0, 1)
    return within
