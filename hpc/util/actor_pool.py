"""ActorPool: a fixed set of actors and values that are given to whichever of them is free.

The pool lives in one process and is used by one thread of it. It has no thread of its own, so work moves on only while
results are taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import hpc
from hpc.exceptions import ActorDiedError

Call = Callable[[Any, Any], Any]


@dataclass(slots=True)
class _Running:
    """A call that was submitted: its place in the order, the actor, and what the call returned."""

    index: int
    actor: Any
    result: Any

    @property
    def ref(self) -> Any:
        """One reference to wait for: those of one call become ready together."""
        return self.result[0] if isinstance(self.result, list) else self.result


class ActorPool:
    """Gives values to actors, each to the next one that is free.

    ``fn`` is called here with an actor and a value and returns the reference of a call of that actor:
    ``pool.map(lambda actor, value: actor.double.remote(value), values)``. An actor whose call has raised ActorDiedError
    leaves the pool.
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle = list(actors)
        self._waiting: deque[tuple[Call, Any]] = deque()
        self._running: dict[int, _Running] = {}
        self._submitted = 0
        self._returned = 0

    def map(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """Submit ``fn(actor, value)`` for every value; an iterator over the results in the order of the values.

        Results of earlier submissions that nobody has taken are dropped. Iterating raises what a call raised.
        """
        self._start_over(fn, values)
        return self._results(self.get_next)

    def map_unordered(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """As `map`, with the results as they come."""
        self._start_over(fn, values)
        return self._results(self.get_next_unordered)

    def _start_over(self, fn: Call, values: Iterable[Any]) -> None:
        while self.has_next():
            call = next(iter(self._running.values()))
            self._take(call)
            self._free(call.actor)
        for value in values:
            self.submit(fn, value)

    def _results(self, following: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield following()

    def submit(self, fn: Call, value: Any) -> None:
        """Call ``fn(actor, value)`` with an actor that is free, now or as soon as a result of another is taken."""
        if self._idle:
            self._start(self._idle.pop(), fn, value)
        else:
            self._waiting.append((fn, value))

    def _start(self, actor: Any, fn: Call, value: Any) -> None:
        try:
            result = fn(actor, value)
            if not isinstance(result[0] if isinstance(result, list) and result else result, hpc.ObjectRef):
                raise TypeError(
                    f"the function given to an ActorPool returned {result!r:.80}: it must return the reference of a "
                    "call, as in lambda actor, value: actor.method.remote(value)"
                )
        except BaseException:
            self._idle.append(actor)
            raise
        self._running[self._submitted] = _Running(self._submitted, actor, result)
        self._submitted += 1

    def has_next(self) -> bool:
        """Whether there is a result to take, ready or not."""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result in the order of submission; waits for it, at most ``timeout`` seconds.

        Raises TimeoutError after that time; with ``ignore_if_timedout`` the result is also given up, and its actor
        counts as free. StopIteration if nothing was submitted; ValueError if `get_next_unordered` has overtaken the
        results that are left.
        """
        if not self.has_next():
            raise StopIteration("there are no more results")
        call = self._running.get(self._returned)
        if call is None:
            raise ValueError("get_next() cannot be used after get_next_unordered() has taken later results")
        late = timeout is not None and not hpc.wait([call.ref], timeout=timeout)[0]
        return self._finish(call, late, timeout, ignore_if_timedout)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Whichever result is ready next; waits for one, at most ``timeout`` seconds.

        Raises TimeoutError after that time; with ``ignore_if_timedout`` the oldest call is also given up, and its
        actor counts as free. StopIteration if nothing was submitted.
        """
        if not self.has_next():
            raise StopIteration("there are no more results")
        by_ref = {call.ref: call for call in self._running.values()}
        ready, rest = hpc.wait(list(by_ref), num_returns=1, timeout=timeout)
        return self._finish(by_ref[(ready or rest)[0]], not ready, timeout, ignore_if_timedout)

    def _finish(self, call: _Running, late: bool, timeout: float | None, ignore: bool) -> Any:
        if late and not ignore:
            raise TimeoutError(f"no result within {timeout} s")
        self._take(call)
        if late:
            self._free(call.actor)
            raise TimeoutError(f"no result within {timeout} s; submission {call.index} is ignored from now on")
        try:
            value = hpc.get(call.result)
        except ActorDiedError:
            raise  # the actor is not put back: what waits goes to the others
        except BaseException:
            self._free(call.actor)
            raise
        self._free(call.actor)
        return value

    def _take(self, call: _Running) -> None:
        del self._running[call.index]
        self._returned = max(self._returned, call.index + 1)

    def _free(self, actor: Any) -> None:
        self._idle.append(actor)
        if self._waiting:
            fn, value = self._waiting.popleft()
            self._start(self._idle.pop(), fn, value)

    def has_free(self) -> bool:
        """Whether an actor is free, so that `submit` would start its call at once."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> Any:
        """Take a free actor out of the pool; None if there is none."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Put an actor into the pool. Raises ValueError if it is there already."""
        if actor in self._idle or any(call.actor == actor for call in self._running.values()):
            raise ValueError("the actor belongs to this ActorPool already")
        self._free(actor)


__all__ = ["ActorPool"]
