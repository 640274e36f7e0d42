"""Work ahead of the consumer: one thread makes what comes next, as far as numbers and bytes allow.

What is ready is taken without a lock: the two threads only meet where one has to wait for the other.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import hpc
from hpc import spi

#: The least bytes that are made ahead: small pieces cost less in a row.
LEAST_BYTES = 1 << 20


class Ahead:
    """An iterator over what another one gives, made ahead by a thread.

    The thread stops while ``number`` pieces and `LEAST_BYTES` are ready. ``size_of`` says the bytes of a piece.
    ``close`` ends it at any time; what it is in is ended by ``stop``, which another thread may call."""

    def __init__(
        self,
        pieces: Callable[[], Iterator[Any]],
        number: int,
        size_of: Callable[[Any], int],
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._pieces, self._number, self._size_of, self._stop = pieces, number, size_of, stop
        self._ready: deque[Any] = deque()
        self._sizes: deque[int] = deque()
        self._made = self._taken = 0
        self._is_full = self._is_hungry = self._is_over = self._is_closed = False
        self._error: BaseException | None = None
        self._meeting = threading.Condition()
        #: In a task or an actor, a consumer that waits lends its CPU to others: to those that make what it waits for.
        self._latch = _latch_of_worker()
        #: Seconds for which the consumer has waited.
        self.waited_s = 0.0
        self._thread = threading.Thread(target=self._make, name="hpc-data-prefetch", daemon=True)
        self._thread.start()

    def _make(self) -> None:
        pieces = None
        try:
            pieces = self._pieces()
            for piece in pieces:
                size = self._size_of(piece)
                self._sizes.append(size)
                self._ready.append(piece)
                del piece
                self._made += size
                if self._is_hungry:
                    self._rouse()
                if self._has_enough():
                    self._wait_for_room()
                if self._is_closed:
                    break
        except BaseException as error:
            self._error = error
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
            self._is_over = True
            self._rouse()

    def _rouse(self) -> None:
        """The consumer may go on."""
        if self._latch is not None:
            self._latch.open()
        with self._meeting:
            self._meeting.notify_all()

    def _has_enough(self) -> bool:
        return len(self._ready) >= self._number and self._made - self._taken >= LEAST_BYTES

    def _wait_for_room(self) -> None:
        with self._meeting:
            self._is_full = True
            while self._has_enough() and not self._is_closed:
                self._meeting.wait()
            self._is_full = False

    def __iter__(self) -> Ahead:
        return self

    def __next__(self) -> Any:
        if not self._ready:
            self._wait_for_piece()
        piece = self._ready.popleft()
        self._taken += self._sizes.popleft()
        if self._is_full:
            with self._meeting:
                self._meeting.notify_all()
        return piece

    def _wait_for_piece(self) -> None:
        began = time.perf_counter()
        self._is_hungry = True
        while not self._ready and not self._is_over:
            if self._latch is not None:
                hpc.wait([self._latch.ref])
                self._latch = self._latch.again()
                continue
            with self._meeting:
                if not self._ready and not self._is_over:
                    self._meeting.wait()
        self._is_hungry = False
        self.waited_s += time.perf_counter() - began
        if not self._ready:
            error, self._error = self._error, None
            if error is not None:
                raise error
            raise StopIteration

    def close(self) -> None:
        """Want no more."""
        with self._meeting:
            self._is_closed = True
            self._meeting.notify_all()
        self._stop()
        self._ready.clear()


def _latch_of_worker() -> Any:
    return spi.latch() if hpc.is_initialized() and spi.whoami().kind == "worker" else None
