"""What a pool returns at once: results that come later, alone or as an iterator."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from multiprocessing import TimeoutError
from typing import Any

from hpc.util.multiprocessing.worker import Outcome, error_of

Callback = Callable[[Any], Any] | None
#: Sends a chunk of items; the function is called with its outcomes.
Send = Callable[[list[Any], Callable[[list[Outcome], BaseException | None], None]], None]


class AsyncResult:
    """The result of `apply_async`, `map_async` and `starmap_async`. ``parts`` chunks belong to it."""

    def __init__(self, keep: Any, parts: int, single: bool, callback: Callback, error_callback: Callback) -> None:
        self._keep = keep  # the pool lives as long as results are awaited
        self._parts: list[list[Outcome]] = [[] for _ in range(parts)]
        self._left = parts
        self._single = single
        self._callback = callback
        self._error_callback = error_callback
        self._ready = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def ready(self) -> bool:
        """Whether all calls are done."""
        return self._ready.is_set()

    def successful(self) -> bool:
        """Whether no call raised. Raises ValueError while they are not done."""
        if not self.ready():
            raise ValueError(f"{self!r} is not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all calls are done, at most ``timeout`` seconds."""
        self._ready.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """The result. Raises multiprocessing.TimeoutError after ``timeout`` seconds, or what a call raised: of several
        the first in the order of the items."""
        if not self._ready.wait(timeout):
            raise TimeoutError(f"no result within {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value

    def _finish(self, part: int, outcomes: list[Outcome], error: BaseException | None) -> None:
        """A chunk is done (on the pool's thread)."""
        if error is not None:
            self._error = self._error or error
        self._parts[part] = outcomes
        self._left -= 1
        if self._left <= 0:
            self._complete()

    def _complete(self) -> None:
        outcomes = [outcome for part in self._parts for outcome in part]
        errors = (error for error in map(error_of, outcomes) if error is not None)
        self._error = next(errors, None) or self._error
        self._parts, self._keep = [], None
        try:
            if self._error is not None:
                if self._error_callback is not None:
                    self._error_callback(self._error)
                return
            values = [value for _, value in outcomes]
            self._value = values[0] if self._single else values
            if self._callback is not None:
                self._callback(self._value)
        finally:
            self._callback = self._error_callback = None
            self._ready.set()


class ResultIterator:
    """The iterator of `imap` and `imap_unordered`.

    Items are taken from the iterable in the thread that asks for results. They are taken only as far as ``window``
    chunks ahead of the results that were taken, so the iterable may be endless. Closing the pool takes all that are
    left.
    """

    def __init__(
        self, keep: Any, send: Send, iterable: Iterable[Any], chunksize: int, window: int, ordered: bool
    ) -> None:
        self._keep = keep
        self._send = send
        self._source = iter(iterable)
        self._chunksize = chunksize
        self._window = window
        self._ordered = ordered
        self._pulling = threading.Lock()  # never held by the pool's thread: the iterable may wait for the pool
        self._changed = threading.Condition()
        self._done: dict[int, list[Outcome]] = {}
        self._items: deque[Outcome] = deque()
        self._sent = 0
        self._taken = 0
        self.exhausted = False
        self.pull()

    def pull(self, everything: bool = False) -> None:
        """Take items from the iterable and send them: as many as the window allows, or all."""
        with self._pulling:
            while not self.exhausted and (everything or self._sent - self._taken < self._window):
                try:
                    items = list(islice(self._source, self._chunksize))
                except Exception as error:  # the iterable's own: raised in its place among the results
                    self._add(error=error)
                    return
                if not items:
                    self._end()
                    return
                number = self._sent
                self._add()
                self._send(items, partial(self._finish, number))

    def _add(self, error: Exception | None = None) -> None:
        with self._changed:
            self._sent += 1
            if error is not None:
                self._done[self._sent - 1] = [(False, (error, "(raised by the iterable)"))]
                self.exhausted = True
                self._changed.notify_all()

    def _end(self) -> None:
        with self._changed:
            self.exhausted = True
            self._changed.notify_all()

    def _finish(self, number: int, outcomes: list[Outcome], error: BaseException | None) -> None:
        """A chunk is done (on the pool's thread)."""
        with self._changed:
            self._done[number] = outcomes if error is None else [(False, (error, str(error)))]
            self._changed.notify_all()

    def __iter__(self) -> ResultIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result. Raises StopIteration after the last, and multiprocessing.TimeoutError if there is none
        within ``timeout`` seconds. Raises what the item's call raised: the iteration may go on after that."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._items:
            self.pull()
            with self._changed:
                self._items = deque(self._next_chunk(deadline, timeout))
        outcome = self._items.popleft()
        error = error_of(outcome)
        if error is not None:
            raise error
        return outcome[1]

    def _next_chunk(self, deadline: float | None, timeout: float | None) -> list[Outcome]:
        while True:
            number = self._taken if self._ordered else next(iter(self._done), -1)
            if number in self._done:
                self._taken += 1
                return self._done.pop(number)
            if self.exhausted and self._taken == self._sent:
                self._keep = None
                raise StopIteration
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"no result within {timeout} s")
            self._changed.wait(left)


__all__ = ["AsyncResult", "ResultIterator", "TimeoutError"]
