"""One thread that wakes routers at their times. It begins with the first of them, and ends when there are none."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable

logger = logging.getLogger("hpc.serve")
#: A thread without anything to wake stays so long: processes that are busy now and then need not make it anew.
LINGER_S = 2.0


class Clock:
    """Calls functions at times. One that takes long delays the others, so they must not wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._running = False

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call ``call`` at this time of `time.monotonic`, from the thread of the clock."""
        with self._changed:
            heapq.heappush(self._heap, (when, next(self._numbers), call))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="hpc-serve-clock", daemon=True).start()
            elif self._heap[0][2] is call:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                if not self._heap:
                    if not self._changed.wait(LINGER_S) and not self._heap:
                        self._running = False
                        return
                    continue
                when, _, call = self._heap[0]
                if when > now:
                    self._changed.wait(when - now)
                    continue
                heapq.heappop(self._heap)
            try:
                call()
            except Exception:  # all routers of the process have this one thread
                logger.exception("what was to be done at a time has failed")


class _Process:
    """The clock of this process; a copy of the process makes its own."""

    def __init__(self) -> None:
        self.clock = Clock()

    def begin(self) -> None:
        """The thread of the other process is not here."""
        self.clock = Clock()


_process = _Process()
os.register_at_fork(after_in_child=_process.begin)


def at(when: float, call: Callable[[], None]) -> None:
    """Call a function at a time of `time.monotonic`."""
    _process.clock.at(when, call)
