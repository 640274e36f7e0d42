"""Where the time of a consumer goes: in the thread that makes batches ahead, and in the loop itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

#: The parts, as they are called in the lines of `stats`.
WAIT, GET, CREATE, FORMAT, COLLATE = "waiting for blocks", "get", "batch creation", "batch formatting", "collate_fn"
#: The parts that `Times` counts, in their order.
PARTS = (GET, CREATE, FORMAT, COLLATE)


class Times:
    """Seconds of one pass, and how often. A part that goes on inside of another one counts as its own alone.

    blocked_s, user_s: for which the loop waited for batches, and did something of its own."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.blocked_s = self.user_s = 0.0
        self.batches = 0
        #: Called when the loop has ended, or was left.
        self.when_over: Callable[[], None] = lambda: None
        #: What parts inside of the one at hand have taken.
        self._inner = 0.0

    def within(self, part: str, source: Iterable[Any]) -> Iterator[Any]:
        """The same items. What it takes to make each is counted."""
        items, clock = iter(source), time.perf_counter
        while True:
            before, self._inner = self._inner, 0.0
            began = clock()
            try:
                one = next(items, self)
            finally:
                took = clock() - began
                self._add(part, took - self._inner)
                self._inner = before + took
            if one is self:
                return
            yield one
            del one  # a batch is not kept while the next one is waited for

    def call(self, part: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The function, with its time counted."""
        clock = time.perf_counter

        def timed(value: Any) -> Any:
            began = clock()
            try:
                return function(value)
            finally:
                took = clock() - began
                self._add(part, took)
                self._inner += took

        return timed

    def _add(self, part: str, took: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + took
        self.counts[part] = self.counts.get(part, 0) + 1

    def loop(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same batches, for the loop of the user: it waits for them here."""
        items, clock = iter(batches), time.perf_counter
        try:
            while True:
                began = clock()
                one = next(items, self)
                asked = clock()
                self.blocked_s += asked - began
                if one is self:
                    return
                self.batches += 1
                yield one
                del one
                self.user_s += clock() - asked
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            self.when_over()


def time_text(seconds: float) -> str:
    """Seconds for people, as Ray writes them."""
    if seconds >= 1:
        return f"{round(seconds, 2):g}s"
    if seconds >= 1e-3:
        return f"{round(seconds * 1e3, 2):g}ms"
    return f"{round(seconds * 1e6, 2):g}us"
