"""Answers of actors, one queue for all: a thread waits for whichever comes first, and polls nothing."""

from __future__ import annotations

import queue
from collections.abc import Hashable
from typing import Any

from hpc import spi


class Answers:
    """References that have a value by now, each under the key with which it was expected. Other threads may add to the
    queue what they have done themselves: see `tell`."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Hashable, Any]] = queue.SimpleQueue()

    def expect(self, key: Hashable, ref: Any) -> None:
        """Have the key and the reference come up when the reference has a value or an error."""
        spi.when_ready(ref, self._queue.put, (key, ref))

    def tell(self, key: Hashable, value: Any) -> None:
        """Put something into the queue: any thread may."""
        self._queue.put((key, value))

    def next(self, timeout_s: float | None) -> list[tuple[Hashable, Any]]:
        """All that is there; waits for the first so many seconds, or for ever with None."""
        found = []
        try:
            found.append(self._queue.get(timeout=timeout_s) if timeout_s != 0 else self._queue.get_nowait())
            while True:
                found.append(self._queue.get_nowait())
        except queue.Empty:
            return found
