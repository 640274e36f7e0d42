"""The base of Stats, and how values that may be tensors become numbers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np


class StatsBase:
    """The values of one key. A leaf takes values by push; others take those of leaves by merge.

    is_root: nothing is above it: sums of a whole life stay there. Used as a context it pushes the seconds within.
    Derive from it for a reduction of your own: push, merge, peek, reduce, ``__len__``, and ``settings`` where the
    constructor takes more; ``config.reporting(custom_stats_cls_lookup=)`` names it.
    """

    stats_cls_identifier = ""

    def __init__(self, is_root: bool = False, is_leaf: bool = True) -> None:
        self.is_root = is_root
        self.is_leaf = is_leaf
        self.latest_merged: Any = None
        self._began_s: dict[int, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_began_s": {}}

    # what kinds of Stats define

    def push(self, value: Any) -> None:
        """Take a value."""
        raise NotImplementedError

    def merge(self, incoming_stats: list[Any]) -> None:
        """Take the values of these Stats of the same kind."""
        raise NotImplementedError

    def peek(self, compile: bool = True, latest_merged_only: bool = False) -> Any:
        """The value as it is now; compile=False: in a list. latest_merged_only: only of the last merge."""
        raise NotImplementedError

    def reduce(self, compile: bool = True) -> Any:
        """The value, and begin anew; compile=False: as Stats that another logger can merge."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor, for a copy without values."""
        return {"is_root": self.is_root, "is_leaf": self.is_leaf}

    # throughputs

    @property
    def has_throughputs(self) -> bool:
        """Whether it says how much was added in a second."""
        return False

    @property
    def throughputs(self) -> Any:
        """How much was added in a second. Raises ValueError where nothing of it is kept."""
        raise ValueError(f"{self!r} has no throughput: log it with with_throughput=True")

    # what all have

    def clone(self, init_overrides: dict[str, Any] | None = None) -> Any:
        """Stats with the same settings, without values."""
        return type(self)(**{**self.settings(), **(init_overrides or {})})

    def get_state(self) -> dict[str, Any]:
        """All that is needed to make it again."""
        names = [key for key in vars(self) if key not in ("_began_s", *self._times())]
        state = {key: _own(plain(vars(self)[key])) for key in names}
        return {"stats_cls_identifier": self.stats_cls_identifier, "settings": self.settings(), "values": state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what get_state has said."""
        for key, value in state["values"].items():
            setattr(self, key, _own(value))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Any:
        """New Stats from what get_state has said."""
        made = cls(**state["settings"])
        made.set_state(state)
        return made

    def _times(self) -> tuple[str, ...]:
        """Names of attributes that mean nothing in another process: times of this one's clock."""
        return ()

    def _need_leaf(self) -> None:
        if not self.is_leaf:
            raise ValueError(f"{self!r} has values of other loggers: log under another key")

    def _need_merged(self) -> None:
        if self.is_leaf:
            raise ValueError(f"latest_merged_only is for Stats that merge those of others, and {self!r} does not")

    def __enter__(self) -> StatsBase:
        self._began_s[threading.get_ident()] = time.perf_counter()
        return self

    def __exit__(self, *error: Any) -> None:
        self.push(time.perf_counter() - self._began_s.pop(threading.get_ident()))

    def __float__(self) -> float:
        return float(self.peek())

    def __int__(self) -> int:
        return int(self.peek())

    def __format__(self, spec: str) -> str:
        return format(float(self), spec)

    def __lt__(self, other: Any) -> bool:
        return float(self) < float(other)

    def __le__(self, other: Any) -> bool:
        return float(self) <= float(other)

    def __gt__(self, other: Any) -> bool:
        return float(self) > float(other)

    def __ge__(self, other: Any) -> bool:
        return float(self) >= float(other)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(len={len(self)})"


def _own(value: Any) -> Any:
    """A container of one's own: what is pushed later must not get into a state that was taken before."""
    return value.copy() if isinstance(value, (list, dict, deque)) else value


def detached(value: Any) -> Any:
    """The value without the graph that it comes from: a tensor stays on its device until it is read."""
    detach = getattr(value, "detach", None)
    return value if detach is None else detach()


def plain(value: Any) -> Any:
    """Tensors as numbers (or arrays), within lists as well."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return value.item() if value.ndim == 0 else value.numpy()
    if isinstance(value, (list, tuple)) and any(hasattr(one, "detach") for one in value):
        return [plain(one) for one in value]
    return value


def plain_list(values: Iterable[Any]) -> list[Any]:
    """These values with tensors as numbers; those of one device come from it at once."""
    listed = list(values)
    if len(listed) > 1 and all(hasattr(one, "detach") and one.ndim == 0 for one in listed):
        return numbers(listed).tolist()
    return [plain(one) for one in listed]


def numbers(values: Iterable[Any]) -> np.ndarray:
    """These values as one array of floats; tensors of one device come from it at once."""
    listed = list(values)
    if listed and all(hasattr(one, "detach") for one in listed):
        import torch

        return torch.stack([one.float().reshape(()) for one in listed]).cpu().numpy().astype(np.float64)
    return np.asarray([float(one) for one in listed], dtype=np.float64)


def is_nan(value: Any) -> bool:
    """Whether the value is not a number; a tensor on a device is not looked at."""
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))
