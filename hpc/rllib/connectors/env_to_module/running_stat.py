"""Mean and variance of all that was seen, of which those of several runners make one."""

from __future__ import annotations

from typing import Any

import numpy as np


class RunningStat:
    """Count, mean and sum of squared differences by element, as Chan, Golub and LeVeque merge them (1979)."""

    def __init__(self, shape: tuple[int, ...] | Any = ()) -> None:
        shape = tuple(int(n) for n in np.atleast_1d(shape)) if shape is not None else ()
        self.count = 0
        self.mean_array = np.zeros(shape, np.float64)
        self.sum_sq_diff_array = np.zeros(shape, np.float64)

    def add(self, rows: np.ndarray) -> None:
        """Add records, ``[N, ...]``."""
        if not len(rows):
            return
        rows = np.asarray(rows, np.float64)
        mean = rows.mean(axis=0)
        self._merge(len(rows), mean, np.square(rows - mean).sum(axis=0))

    def update(self, other: RunningStat) -> None:
        """Add all that another one saw."""
        if other.count:
            self._merge(other.count, other.mean_array, other.sum_sq_diff_array)

    def without(self, part: RunningStat) -> RunningStat:
        """What it has beside a part of it: `update` with that part makes it again."""
        rest = RunningStat(self.mean_array.shape)
        count = self.count - part.count
        if count > 0:
            mean = (self.mean_array * self.count - part.mean_array * part.count) / count
            between = np.square(mean - part.mean_array) * (part.count * count / self.count)
            squares = self.sum_sq_diff_array - part.sum_sq_diff_array - between
            rest._merge(count, mean, np.maximum(squares, 0.0))
        return rest

    def _merge(self, count: int, mean: np.ndarray, squares: np.ndarray) -> None:
        total = self.count + count
        delta = mean - self.mean_array
        self.mean_array = self.mean_array + delta * (count / total)
        self.sum_sq_diff_array = self.sum_sq_diff_array + squares + np.square(delta) * (self.count * count / total)
        self.count = total

    @property
    def std(self) -> np.ndarray:
        """The standard deviation; after one record its absolute value, as RLlib has it."""
        if self.count > 1:
            return np.sqrt(self.sum_sq_diff_array / (self.count - 1))
        return np.abs(self.mean_array)

    def copy(self) -> RunningStat:
        """One of its own with the same figures."""
        return RunningStat.from_state(self.to_state())

    def to_state(self) -> dict[str, Any]:
        """Its figures."""
        return {"count": self.count, "mean_array": self.mean_array, "sum_sq_diff_array": self.sum_sq_diff_array}

    @staticmethod
    def from_state(state: dict[str, Any]) -> RunningStat:
        """One from what `to_state` gave."""
        stat = RunningStat()
        stat.count = state["count"]
        stat.mean_array = np.array(state["mean_array"])
        stat.sum_sq_diff_array = np.array(state["sum_sq_diff_array"])
        return stat
