"""Stats that keep one value: an exponential average, a sum over the whole life, an item."""

from __future__ import annotations

import time
from typing import Any

from hpc.rllib.utils.metrics.stats.base import StatsBase, detached, is_nan, numbers, plain

NAN = float("nan")


class EmaStats(StatsBase):
    """An exponential average: each value has the weight ema_coeff, the average before it the rest.

    That of several loggers is the mean of their averages. It stays when it is read.
    """

    stats_cls_identifier = "ema"

    def __init__(self, ema_coeff: float = 0.01, is_root: bool = False, is_leaf: bool = True) -> None:
        super().__init__(is_root, is_leaf)
        self.ema_coeff = ema_coeff
        self.value: Any = NAN
        self.to_merge: list[Any] = []

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "ema_coeff": self.ema_coeff}

    def push(self, value: Any) -> None:
        self._need_leaf()
        value = detached(value)
        if is_nan(value):
            return
        if hasattr(value, "detach") or hasattr(self.value, "detach"):
            self.value = self._of_tensors(value)
        else:
            self.value = value if is_nan(self.value) else self.ema_coeff * value + (1.0 - self.ema_coeff) * self.value

    def _of_tensors(self, value: Any) -> Any:
        """The same with what may be tensors: whether one is NaN is not read from its device."""
        import torch

        device = value.device if hasattr(value, "detach") else self.value.device
        new, old = (torch.as_tensor(one, dtype=torch.float32, device=device) for one in (value, self.value))
        mixed = torch.where(old.isnan(), new, self.ema_coeff * new + (1.0 - self.ema_coeff) * old)
        return torch.where(new.isnan(), old, mixed)

    def merge(self, incoming_stats: list[Any]) -> None:
        self.latest_merged = [stats.value for stats in incoming_stats]
        self.to_merge.extend(self.latest_merged)

    def peek(self, compile: bool = True, latest_merged_only: bool = False) -> Any:
        if latest_merged_only:
            self._need_merged()
            value = _mean(self.latest_merged or [])
        else:
            value = _mean(self.to_merge) if self.to_merge else plain(self.value)
        return value if compile else [value]

    def reduce(self, compile: bool = True) -> Any:
        value = self.peek()
        if self.to_merge:
            self.value, self.to_merge = value, []
        if compile:
            return value
        made = self.clone()
        made.value = value
        return made

    def __len__(self) -> int:
        return 1


def _mean(values: list[Any]) -> float:
    found = numbers(values)
    found = found[found == found]
    return float(found.mean()) if len(found) else NAN


class LifetimeSumStats(StatsBase):
    """A sum over the whole life: those below the root hand on what was added since the last reduce.

    with_throughput: and how much was added in a second, since the last reduce and since the last restore.
    """

    stats_cls_identifier = "lifetime_sum"

    def __init__(self, with_throughput: bool = False, is_root: bool = False, is_leaf: bool = True) -> None:
        super().__init__(is_root, is_leaf)
        self.with_throughput = with_throughput
        self.sum: Any = 0.0
        self.at_reduce = self.at_restore = 0.0
        self._reduced_s = self._restored_s = time.perf_counter()

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "with_throughput": self.with_throughput}

    def push(self, value: Any) -> None:
        self._need_leaf()
        if not is_nan(value):
            self.sum = self.sum + detached(value)

    def merge(self, incoming_stats: list[Any]) -> None:
        self.latest_merged = sum(stats.sum for stats in incoming_stats)
        self.sum = self.sum + self.latest_merged

    def peek(self, compile: bool = True, latest_merged_only: bool = False) -> Any:
        if latest_merged_only:
            self._need_merged()
        value = plain((self.latest_merged or 0.0) if latest_merged_only else self.sum)
        return value if compile else [value]

    def reduce(self, compile: bool = True) -> Any:
        value = self.peek()
        if not self.is_root:
            self.sum = 0.0
        self.at_reduce = value if self.is_root else 0.0
        self._reduced_s = time.perf_counter()
        if compile:
            return value
        made = self.clone()
        made.sum = value
        return made

    @property
    def has_throughputs(self) -> bool:
        return self.with_throughput

    @property
    def throughputs(self) -> dict[str, float]:
        if not self.with_throughput:
            return super().throughputs
        value, now = self.peek(), time.perf_counter()
        found = {"throughput_since_last_reduce": (value - self.at_reduce) / (now - self._reduced_s)}
        if self.is_root:
            found["throughput_since_last_restore"] = (value - self.at_restore) / (now - self._restored_s)
        return found

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.at_reduce = self.at_restore = self.sum

    def _times(self) -> tuple[str, ...]:
        return ("_reduced_s", "_restored_s")

    def __len__(self) -> int:
        return 1


class ItemStats(StatsBase):
    """The last item, of any kind."""

    stats_cls_identifier = "item"

    def __init__(self, is_root: bool = False, is_leaf: bool = True) -> None:
        super().__init__(is_root, is_leaf)
        self.item: Any = None

    def push(self, value: Any) -> None:
        self.item = detached(value)

    def merge(self, incoming_stats: list[Any]) -> None:
        if len(incoming_stats) != 1:
            raise ValueError(f"{len(incoming_stats)} loggers have an item under one key: log it with another reduce")
        self.item = incoming_stats[0].item

    def peek(self, compile: bool = True, latest_merged_only: bool = False) -> Any:
        return plain(self.item) if compile else [plain(self.item)]

    def reduce(self, compile: bool = True) -> Any:
        item, self.item = plain(self.item), None
        if compile:
            return item
        made = self.clone()
        made.item = item
        return made

    def __len__(self) -> int:
        return 1
