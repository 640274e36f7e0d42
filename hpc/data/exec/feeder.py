"""Brings the parts of a source: a listing may take its time, and nothing else waits for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

#: What has come by then is passed on, even if more was asked for.
PASS_ON_S = 0.02


class Feeder:
    """A thread that takes parts out of an iterator, as many as are wanted. ``give(parts, ended, error)`` gets them."""

    def __init__(
        self,
        begin: Callable[[], Iterator[Any]],
        give: Callable[[list[Any], bool, BaseException | None], None],
    ) -> None:
        self._begin, self._give = begin, give
        self._wanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._stopped = False
        threading.Thread(target=self._run, name="hpc-data-source", daemon=True).start()

    def want(self, most: int) -> None:
        """Pass on so many more, at most."""
        self._wanted.put(most)

    def stop(self) -> None:
        """No more."""
        self._stopped = True
        self._wanted.put(0)

    def _run(self) -> None:
        try:
            parts = iter(self._begin())
            while (most := self._wanted.get()) and not self._stopped:
                found: list[Any] = []
                ended = False
                until = time.monotonic() + PASS_ON_S
                while len(found) < most and not (found and time.monotonic() > until):
                    part = next(parts, self)
                    if part is self:
                        ended = True
                        break
                    found.append(part)
                if self._stopped:
                    return
                self._give(found, ended, None)
                if ended:
                    return
        except BaseException as error:
            if not self._stopped:
                self._give([], True, error)
