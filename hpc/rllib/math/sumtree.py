"""A binary tree of sums over priorities: setting and drawing of whole batches in O(log n) array operations."""

from __future__ import annotations

from typing import Any

import numpy as np


class SumTree:
    """Priorities of `capacity` places. Parents hold sums and minima of their two children."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a sum tree needs a capacity of at least 1, not {capacity}")
        self.capacity = capacity
        self._leaves = 1 << max(0, (capacity - 1).bit_length())
        self._levels = self._leaves.bit_length() - 1
        self._sums = np.zeros(2 * self._leaves)
        self._least = np.full(2 * self._leaves, np.inf)

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._sums[1])

    @property
    def least(self) -> float:
        """The smallest priority above 0; infinity without one."""
        return float(self._least[1])

    def get(self, places: np.ndarray) -> np.ndarray:
        """The priorities of these places."""
        found: np.ndarray = self._sums[places + self._leaves]
        return found

    def set(self, places: np.ndarray, priorities: np.ndarray | float) -> None:
        """Set the priorities of these places; 0 takes a place out. The last one counts where a place comes twice."""
        if not len(places):
            return
        nodes = places + self._leaves
        self._sums[nodes] = priorities
        kept = self._sums[nodes]
        if not np.isfinite(kept).all() or (kept < 0).any():
            raise ValueError("priorities must be finite and not negative")
        self._least[nodes] = np.where(kept > 0, kept, np.inf)
        for _ in range(self._levels):
            nodes = np.unique(nodes >> 1) if len(nodes) > 64 else nodes >> 1
            left = nodes << 1
            self._sums[nodes] = self._sums[left] + self._sums[left + 1]
            self._least[nodes] = np.minimum(self._least[left], self._least[left + 1])

    def find(self, masses: np.ndarray) -> np.ndarray:
        """The places at which the running sum of priorities first exceeds each of the masses, all below `total`."""
        rest = np.array(masses, np.float64)
        nodes = np.ones(len(rest), np.int64)
        for _ in range(self._levels):
            left = nodes << 1
            sums = self._sums[left]
            # An empty right child is never entered, whatever rounding has left in `rest`.
            right = (rest >= sums) & (self._sums[left + 1] > 0)
            rest -= np.where(right, sums, 0.0)
            nodes = left + right
        return nodes - self._leaves

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Places drawn in proportion to their priorities, one from each of `count` equal parts of the sum."""
        if self.total <= 0:
            raise ValueError("no place has a priority above 0")
        masses = (np.arange(count) + rng.random(count)) * (self.total / count)
        return self.find(masses)

    def get_state(self) -> dict[str, Any]:
        """All priorities."""
        return {"capacity": self.capacity, "priorities": self._sums[self._leaves :][: self.capacity].copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Priorities as `get_state` gave them."""
        if state["capacity"] != self.capacity:
            raise ValueError(f"the state is of {state['capacity']} places, the tree has {self.capacity}")
        self.set(np.arange(self.capacity), state["priorities"])
