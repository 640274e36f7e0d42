"""From the arguments of the methods to what a stage of a plan needs: how its tasks or actors are run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from hpc.data.block import promote
from hpc.data.compute import ActorPoolStrategy, ComputeStrategy, TaskPoolStrategy, said
from hpc.data.plan.nodes import Options, Pool

#: The options of `.options()` that methods have as parameters of their own.
NAMED = (
    "num_cpus", "num_gpus", "memory", "label_selector", "fallback_strategy", "max_calls", "resources",
    "accelerator_type", "runtime_env",
)  # fmt: skip
FORMATS = ("pandas", "pyarrow", "numpy", "polars", "default", None)


def options(
    concurrency: int | None = None,
    remote_fn: Callable[[], Mapping[str, Any]] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    remote: Mapping[str, Any] | None = None,
    **named: Any,
) -> Options:
    """The options of a stage. ``named`` are those of `.options()` that methods have as parameters of their own."""
    more = {word: value for word, value in named.items() if value is not None} | dict(remote or {})
    for word, value in (("num_cpus", num_cpus), ("num_gpus", num_gpus), ("memory", memory)):
        if value is not None and value < 0:
            raise ValueError(f"{word} cannot be negative: {value}")
    size = None if memory is None else int(memory)
    return Options(num_cpus, num_gpus, size, concurrency, more, remote_fn)


def pool(strategy: ComputeStrategy) -> tuple[Pool | None, int | None]:
    """The pool of actors that a strategy means, and the most tasks at a time where it means tasks."""
    if isinstance(strategy, TaskPoolStrategy):
        return None, strategy.size
    assert isinstance(strategy, ActorPoolStrategy)
    most = None if strategy.max_size == math.inf else int(strategy.max_size)
    queued, concurrent = strategy.max_tasks_in_flight_per_actor, strategy.max_concurrent_calls_per_actor or 1
    return Pool(strategy.min_size, most, strategy.initial_size, queued, concurrent), None


def check_function(fn: Any, method: str, constructor_args: Any, constructor_kwargs: Any) -> None:
    """Raises TypeError for what cannot be called, and ValueError for arguments of a class where there is none."""
    if not callable(fn):
        raise TypeError(f"{method} takes a function or a class with __call__, not {fn!r}")
    if isinstance(fn, type):
        if not any("__call__" in vars(one) for one in fn.__mro__):
            raise ValueError(f"{method} was given the class {said(fn)}, which has no __call__")
        return
    for word, given in (("fn_constructor_args", constructor_args), ("fn_constructor_kwargs", constructor_kwargs)):
        if given is not None:
            raise ValueError(f"``{word}`` can only be specified if providing a callable class for ``fn``, not {fn!r}")


def check_format(batch_format: str | None) -> None:
    """Raises ValueError for a format of batches that there is not."""
    if batch_format not in FORMATS:
        raise ValueError(f"The given batch format {batch_format} isn't allowed (must be one of {list(FORMATS)}).")


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all of these tables; a table without columns where there are none."""
    return promote.concat(list(tables)) if tables else pa.table({})
