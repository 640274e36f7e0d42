"""Statistics over the latest episodes, which stay when they are read."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from hpc.rllib.utils.metrics.stats.base import StatsBase, plain

_HOW: dict[str, Any] = {"mean": lambda values: float(np.mean(values)), "min": min, "max": max}


class SmoothedStats(StatsBase):
    """The mean, minimum or maximum of the last `window` values, or of all since the last reduce, if those are more."""

    stats_cls_identifier = "smoothed"

    def __init__(self, how: str = "mean", window: int = 100, is_root: bool = False, is_leaf: bool = True) -> None:
        super().__init__(is_root, is_leaf)
        self.how, self.window = how, window
        self.values: deque[float] = deque()
        self.new = 0

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "how": self.how, "window": self.window}

    def push(self, value: Any) -> None:
        self.values.append(plain(value))
        self.new += 1
        if len(self.values) > max(self.window, self.new):
            self.values.popleft()

    def merge(self, incoming_stats: list[Any]) -> None:
        for stats in incoming_stats:
            for value in stats.values:
                self.push(value)

    def peek(self, compile: bool = True, latest_merged_only: bool = False) -> Any:
        value = _HOW[self.how](self.values) if self.values else float("nan")
        return value if compile else [value]

    def reduce(self, compile: bool = True) -> Any:
        value = self.peek()
        self.new = 0
        while len(self.values) > self.window:
            self.values.popleft()
        if compile:
            return value
        made = self.clone()
        made.values.extend(self.values)
        return made

    def __len__(self) -> int:
        return len(self.values)
