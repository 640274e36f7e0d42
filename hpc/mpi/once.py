"""``@hpc.mpi.remote(ranks=4)``: each call of the function is a gang of its own, which ends with it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import hpc
from hpc.mpi.gang import gang


class RankFunction:
    """What `remote` makes of a function: call it with ``.remote(...)``, without the communicator."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self._function = function
        self._options = options
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self._function.__name__}() runs on the ranks of a gang: call .remote(...) instead")

    def options(self, **options: Any) -> RankFunction:
        """The same function with other options; ``self`` stays as it is."""
        return RankFunction(self._function, {**self._options, **options})

    def remote(self, *args: Any, **kwargs: Any) -> list[hpc.ObjectRef[Any]]:
        """Make a gang, run the function on all its ranks, and end the gang; one reference for each rank."""
        made = gang(**self._options)
        try:
            return made.run(self._function, *args, **kwargs)
        finally:
            made.shutdown(wait=False)


def remote(**options: Any) -> Callable[[Callable[..., Any]], RankFunction]:
    """Make a function of a communicator one that runs as a gang: ``@hpc.mpi.remote(ranks=4)`` above ``def f(comm, x)``,
    then ``f.remote(x)``. The options are those of `gang`; ``ranks`` may be given later, by `RankFunction.options`.

    Raises TypeError for what is no function, and for options that `gang` has not.
    """
    known = ("ranks", "resources_per_rank", "placement_strategy", "runtime_env", "name")
    for name in options:
        if name not in known:
            raise TypeError(f"{name!r} is not an option of a gang; there are: {', '.join(known)}")

    def decorate(function: Callable[..., Any]) -> RankFunction:
        if not callable(function):
            raise TypeError(f"@hpc.mpi.remote is for functions, not for {type(function).__name__}")
        return RankFunction(function, dict(options))

    return decorate
