"""The lock of a router, for which the thread that reads answers never waits.

Whoever holds it may be calling an actor, and such a call may wait for what is to be read. Large arguments wait for room
in the object store. A thread that sends for one router also reads the answers of others. So what was read is left to
whoever holds the lock, and done as soon as that thread gives it back.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("hpc.serve")


class Turn:
    """A lock that its holder can take again, with a list of what is to be done under it.

    What waits is done by the thread that has brought it, or by the one that gives the lock back: nothing is left over.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._holder = 0
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._holder = threading.get_ident()
        self._depth += 1

    def __exit__(self, *_error: object) -> None:
        self._depth = depth = self._depth - 1
        if depth:
            self._lock.release()
            return
        self._holder = 0
        self._lock.release()
        if self._waiting:
            self._catch_up()

    @property
    def is_mine(self) -> bool:
        """Whether this thread holds the lock."""
        return self._holder == threading.get_ident()

    def soon(self, work: Callable[..., None], *args: Any) -> None:
        """Have this done with the lock held, in order: now, or when the holder gives it back."""
        self._waiting.append((work, args))
        if self._holder != threading.get_ident():
            self._catch_up()

    def _catch_up(self) -> None:
        waiting = self._waiting
        while waiting and self._lock.acquire(blocking=False):
            self._holder = threading.get_ident()
            self._depth = 1
            try:
                while waiting:
                    work, args = waiting.popleft()
                    try:
                        work(*args)
                    except Exception:  # this thread reads for others too, and goes on
                        logger.exception("what was read for requests could not be taken")
            finally:
                self._depth = self._holder = 0
                self._lock.release()
