"""What is to be called when values have come: functions of futures and coroutines, outside the machine's lock.

Callbacks may wait, and a thread that waits reads the sockets. A thread that already runs callbacks does not begin more
of them then. Programs have any number of callbacks, and each would be a level deeper. Others may go on with the rest
meanwhile.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable


class Prompt(functools.partial):  # type: ignore[type-arg]
    """A function that the thread calls which has read what it waits for, at once. It is the runtime's or a library's:
    it is quick, waits for nothing and raises nothing."""


class Callbacks(deque[Callable[[], None]]):
    """The functions that wait to be called, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._running: set[int] = set()

    def take(self, callback: Callable[[], None]) -> None:
        """What is to be called: at once where it is prompt, else when the thread has read everything."""
        if type(callback) is Prompt:
            callback()
        else:
            self.append(callback)

    def run(self) -> None:
        """Call those that are there, unless this thread is about that already."""
        me = threading.get_ident()
        if me in self._running:
            return
        self._running.add(me)
        try:
            while self:
                try:
                    callback = self.popleft()
                except IndexError:
                    return  # another thread has taken it
                callback()
        finally:
            self._running.discard(me)
