"""How the calls of a function are run: each as a task, or all on a pool of actors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


class ComputeStrategy:
    """The base of both."""


class TaskPoolStrategy(ComputeStrategy):
    """Tasks: at most ``size`` of them at a time, or as many as there is room for.

    Raises ValueError for a size below 1."""

    def __init__(self, size: int | None = None) -> None:
        if size is not None and size < 1:
            raise ValueError("`size` must be >= 1", size)
        self.size = size

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TaskPoolStrategy):
            return self.size == other.size
        return other == "tasks" and self.size is None

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TaskPoolStrategy(size={self.size})"


class ActorPoolStrategy(ComputeStrategy):
    """A pool of actors: ``size`` of them, or as many as the work needs between ``min_size`` and ``max_size``.

    * ``initial_size``: with how many the pool begins; ``min_size`` by default.
    * ``max_tasks_in_flight_per_actor``: how many calls an actor may have in its queue.
    * ``max_concurrent_calls_per_actor``: how many calls may be in an actor at a time. Its function runs for one of
      them only, unless ``enable_true_multi_threading`` is True.

    Raises ValueError for sizes that exclude each other or are below 1."""

    enable_true_multi_threading: bool

    def __init__(
        self,
        *,
        size: int | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        initial_size: int | None = None,
        max_tasks_in_flight_per_actor: int | None = None,
        max_concurrent_calls_per_actor: int | None = None,
        enable_true_multi_threading: bool | None = None,
    ) -> None:
        if size is not None:
            if size < 1:
                raise ValueError("size must be >= 1", size)
            if not min_size is max_size is initial_size is None:
                raise ValueError("min_size, max_size, and initial_size cannot be set at the same time as `size`")
            min_size = max_size = initial_size = size
        if min_size is not None and min_size < 1:
            raise ValueError("min_size must be >= 1", min_size)
        self.min_size: int = min_size or 1
        self.max_size: float = max_size or math.inf
        if self.min_size > self.max_size:
            raise ValueError("min_size must be <= max_size", self.min_size, self.max_size)
        calls = {
            "max_tasks_in_flight_per_actor": max_tasks_in_flight_per_actor,
            "max_concurrent_calls_per_actor": max_concurrent_calls_per_actor,
        }
        for word, number in calls.items():
            if number is not None and number < 1:
                raise ValueError(f"{word} must be >= 1, got: ", number)
        self.initial_size: int = self.min_size if initial_size is None else initial_size
        if self.initial_size < self.min_size:
            raise ValueError(f"initial_size ({initial_size}) must be >= min_size ({self.min_size})")
        if self.initial_size > self.max_size:
            raise ValueError(f"initial_size ({initial_size}) must be <= max_size ({self.max_size})")
        self.max_tasks_in_flight_per_actor = max_tasks_in_flight_per_actor
        self.max_concurrent_calls_per_actor = max_concurrent_calls_per_actor
        self.enable_true_multi_threading = bool(enable_true_multi_threading)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorPoolStrategy) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ActorPoolStrategy({', '.join(f'{word}={value}' for word, value in vars(self).items())})"


def strategy_of(fn: Callable[..., Any] | type, compute: Any, concurrency: Any) -> ComputeStrategy:
    """The strategy that ``compute`` and ``concurrency`` of a method of a Dataset mean for a function or a class.

    Raises ValueError where a class is given with tasks, a function with actors, or both arguments at once. Raises
    TypeError for a ``compute`` that is no strategy."""
    is_class = isinstance(fn, type)
    if compute is not None:
        if concurrency is not None:
            raise ValueError("give either compute or concurrency, not both")
        if compute in ("tasks", "actors"):
            compute = TaskPoolStrategy() if compute == "tasks" else ActorPoolStrategy()
        if not isinstance(compute, (TaskPoolStrategy, ActorPoolStrategy)):
            raise TypeError(f"compute must be a TaskPoolStrategy or an ActorPoolStrategy, not {compute!r}")
        if is_class and isinstance(compute, TaskPoolStrategy):
            raise ValueError(f"a class ({said(fn)}) needs actors: give compute=ActorPoolStrategy(...)")
        if not is_class and isinstance(compute, ActorPoolStrategy):
            raise ValueError(f"a function ({said(fn)}) runs in tasks; a pool of actors needs a class with __call__")
        return compute
    if concurrency is None:
        return ActorPoolStrategy() if is_class else TaskPoolStrategy()
    return _of_concurrency(fn, concurrency)


def _of_concurrency(fn: Callable[..., Any] | type, concurrency: Any) -> ComputeStrategy:
    is_class = isinstance(fn, type)
    if isinstance(concurrency, tuple):
        if not is_class:
            raise ValueError(f"concurrency={concurrency} is for classes; a function takes a number")
        if len(concurrency) not in (2, 3) or not all(isinstance(one, int) for one in concurrency):
            raise ValueError(f"concurrency must be a number, (min, max) or (min, max, initial), not {concurrency}")
        smallest, largest, *initial = concurrency
        return ActorPoolStrategy(min_size=smallest, max_size=largest, initial_size=initial[0] if initial else None)
    if not isinstance(concurrency, int) or isinstance(concurrency, bool):
        raise ValueError(f"concurrency must be a number or a tuple of them, not {concurrency!r}")
    if concurrency < 1:
        raise ValueError(f"concurrency must be positive, not {concurrency}")
    return ActorPoolStrategy(size=concurrency) if is_class else TaskPoolStrategy(concurrency)


def said(fn: Any) -> str:
    """The name of a function or class, for errors and plans."""
    inner = getattr(fn, "func", fn)  # of a functools.partial
    return getattr(inner, "__name__", None) or type(inner).__name__
