"""What is sent to the ranks of a gang for one run: the function once for all, and references each as an argument.

The runtime brings an argument that is a reference to each node once, and a rank reads it there without a copy. So the
function and its plain arguments are one object for all ranks, and every reference stays an argument of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hpc


class PerRank:
    """An argument of which each rank gets its own part: the element of its number."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = list(values)

    def __repr__(self) -> str:
        return f"per_rank({len(self.values)} values)"


def per_rank(values: Sequence[Any]) -> PerRank:
    """Give each rank its own value of an argument: ``gang.run(f, per_rank([a, b]))`` calls ``f(comm, a)`` on rank 0 and
    ``f(comm, b)`` on rank 1. References arrive as their values, so what one run returned is given to the next."""
    return PerRank(values)


@dataclass(frozen=True)
class Given:
    """In the place of an argument: it comes beside the work, at this index."""

    index: int


@dataclass(frozen=True)
class Work:
    """A function and its arguments, with `Given` where an argument comes beside it."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def call(self, comm: Any, given: Sequence[Any]) -> Any:
        """Call the function on this rank."""

        def filled(value: Any) -> Any:
            return given[value.index] if isinstance(value, Given) else value

        args = [filled(value) for value in self.args]
        kwargs = {name: filled(value) for name, value in self.kwargs.items()}
        return self.function(comm, *args, **kwargs)


def prepare(
    function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], size: int
) -> tuple[Work, list[list[Any]]]:
    """The work, and for each rank what is given beside it. Raises TypeError for what is no function. Raises ValueError
    for a `PerRank` that has not one value for each rank."""
    if not callable(function):
        raise TypeError(f"a gang runs a function, not {type(function).__name__}: gang.run(f, x) calls f(comm, x)")
    given: list[list[Any]] = [[] for _ in range(size)]

    def beside(value: Any) -> Any:
        if not isinstance(value, (PerRank, hpc.ObjectRef)):
            return value
        if isinstance(value, PerRank) and len(value.values) != size:
            raise ValueError(f"per_rank has {len(value.values)} values for a gang of {size} ranks")
        for rank, mine in enumerate(given):
            mine.append(value.values[rank] if isinstance(value, PerRank) else value)
        return Given(len(given[0]) - 1)

    return Work(function, tuple(map(beside, args)), {name: beside(value) for name, value in kwargs.items()}), given
