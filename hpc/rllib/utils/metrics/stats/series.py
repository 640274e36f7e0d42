"""Stats that keep several values: mean, minimum, maximum, sum, percentiles, and the items themselves."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpc.rllib.utils.metrics.stats.base import StatsBase, detached, numbers, plain_list

PERCENTILES = (0, 50, 75, 90, 95, 99, 100)


class SeriesStats(StatsBase):
    """Values until they are read. window: a leaf keeps only so many of the latest."""

    #: Whether the result of integers is one.
    of_one_kind = False

    def __init__(self, window: int | None = None, is_root: bool = False, is_leaf: bool = True) -> None:
        super().__init__(is_root, is_leaf)
        self.window = window
        self.values: Any = self._empty()

    def _empty(self) -> Any:
        return deque(maxlen=self.window) if self.window and self.is_leaf else []

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "window": self.window}

    def reduced(self, values: np.ndarray) -> float:
        """One number of these, none of which is NaN; there is at least one."""
        raise NotImplementedError

    def push(self, value: Any) -> None:
        self._need_leaf()
        self.values.append(detached(value))

    def merge(self, incoming_stats: list[Any]) -> None:
        self.latest_merged = [one for stats in incoming_stats for one in stats.values]
        self.values.extend(self.latest_merged)

    def peek(self, compile: bool = True, latest_merged_only: bool = False) -> Any:
        if latest_merged_only:
            self._need_merged()
        value = self._one(self.latest_merged or [] if latest_merged_only else self.values)
        return value if compile else [value]

    def reduce(self, compile: bool = True) -> Any:
        if compile:
            value = self._one(self.values)
            self.values = self._empty()
            return value
        made = self.clone()
        # Tensors are not read: they may be of a device, and another process gets numbers, see __getstate__.
        made.values, self.values = self.values, made.values
        return made

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        values = self._empty()
        values.extend(plain_list(self.values))
        return {**state, "values": values, "latest_merged": None}

    def _one(self, values: Sequence[Any]) -> float:
        found = numbers(values)
        found = found[~np.isnan(found)]
        if not len(found):
            return float("nan")
        value = float(self.reduced(found))
        return int(value) if self.of_one_kind and all(type(one) is int for one in values) else value

    def get_state(self) -> dict[str, Any]:
        state = super().get_state()
        state["values"]["values"] = plain_list(self.values)
        state["values"]["latest_merged"] = None
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        values = self._empty()
        values.extend(state["values"]["values"])
        self.values = values

    def __len__(self) -> int:
        return len(self.values)


class MeanStats(SeriesStats):
    """The mean. That of several loggers is the mean of all of their values, each with the same weight."""

    stats_cls_identifier = "mean"

    def reduced(self, values: np.ndarray) -> float:
        return values.mean()


class MinStats(SeriesStats):
    """The smallest value."""

    of_one_kind = True

    stats_cls_identifier = "min"

    def reduced(self, values: np.ndarray) -> float:
        return values.min()


class MaxStats(SeriesStats):
    """The largest value."""

    of_one_kind = True

    stats_cls_identifier = "max"

    def reduced(self, values: np.ndarray) -> float:
        return values.max()


class SumStats(SeriesStats):
    """The sum since the last reduce. with_throughput: and how much that is in a second."""

    of_one_kind = True

    stats_cls_identifier = "sum"

    def __init__(
        self, with_throughput: bool = False, window: int | None = None, is_root: bool = False, is_leaf: bool = True
    ) -> None:
        super().__init__(window, is_root, is_leaf)
        self.with_throughput = with_throughput
        self._since_s = time.perf_counter()

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "with_throughput": self.with_throughput}

    def reduced(self, values: np.ndarray) -> float:
        return values.sum()

    def _one(self, values: Sequence[Any]) -> float:
        return super()._one(values) if values else 0

    def push(self, value: Any) -> None:
        super().push(value)
        if not self.window and len(self.values) > 256:
            self.values = [self._one(self.values)]

    @property
    def has_throughputs(self) -> bool:
        return self.with_throughput

    @property
    def throughputs(self) -> float:
        if not self.with_throughput:
            return super().throughputs
        return self.peek() / (time.perf_counter() - self._since_s)

    def reduce(self, compile: bool = True) -> Any:
        self._since_s = time.perf_counter()
        return super().reduce(compile)

    def _times(self) -> tuple[str, ...]:
        return ("_since_s",)


class PercentilesStats(SeriesStats):
    """Percentiles, 0 to 100, with values between two of the series where one falls there."""

    stats_cls_identifier = "percentiles"

    def __init__(
        self,
        percentiles: Sequence[float] | bool | None = None,
        window: int | None = None,
        is_root: bool = False,
        is_leaf: bool = True,
    ) -> None:
        super().__init__(window, is_root, is_leaf)
        self.percentiles = list(PERCENTILES if percentiles is None or percentiles is True else percentiles or ())

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "percentiles": self.percentiles}

    def peek(self, compile: bool = True, latest_merged_only: bool = False) -> Any:
        if latest_merged_only:
            self._need_merged()
        values = np.sort(numbers(self.latest_merged or [] if latest_merged_only else self.values))
        return self._of(values) if compile else values.tolist()

    def reduce(self, compile: bool = True) -> Any:
        if not compile:
            return super().reduce(compile=False)
        values = np.sort(numbers(self.values))
        self.values = self._empty()
        return self._of(values)

    def _of(self, values: np.ndarray) -> dict[float, float | None]:
        if not len(values):
            return dict.fromkeys(self.percentiles)
        return {one: float(np.percentile(values, one)) for one in self.percentiles}

    def __float__(self) -> float:
        raise ValueError("percentiles are several numbers: use peek()")


class ItemSeriesStats(SeriesStats):
    """The items themselves, of any kind."""

    stats_cls_identifier = "item_series"

    def peek(self, compile: bool = True, latest_merged_only: bool = False) -> Any:
        if latest_merged_only:
            self._need_merged()
        return plain_list(self.latest_merged or [] if latest_merged_only else self.values)

    def reduce(self, compile: bool = True) -> Any:
        if not compile:
            return super().reduce(compile=False)
        items = self.peek()
        self.values = self._empty()
        return items
