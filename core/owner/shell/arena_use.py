"""A process's use of its node's arena: it copies values in, waits for them, and makes views of them.

Which objects this process may read, and what it asks its raylet for, is decided by `owner.pins`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hpc.core import exceptions, serialization
from hpc.core.owner.pins import Pin
from hpc.core.owner.span import span_bytes
from hpc.core.owner.tables import Waiter
from hpc.core.store.arena import Arena, anchored, copy
from hpc.core.wire import Alloc, Allocated, Fetched, FetchedAll, Result

if TYPE_CHECKING:
    from hpc.core.owner.ports import Line
    from hpc.core.owner.shell.conversation import Conversation

#: What is on this node is read even when the time is over, if the raylet answers within this time.
HERE_S = 1.0


class ArenaUse:
    """The bytes behind the pins of one process. Methods that say so are called with the client's lock held."""

    def __init__(self, line: Line, conversation: Conversation, arena: Arena) -> None:
        self._line = line
        self._conversation = conversation
        self.arena = arena
        self._pins = line.machine.pins
        self._pins.span.most = span_bytes(arena.size_bytes)
        self._view_ended = self._pins.unviewed.append
        #: What this process may read now.
        self.pins = self._pins.held

    # -------------------------------------------------------------- writing

    def store(self, ident: bytes, data: serialization.Serialized, keep: bool = True) -> None:
        """Write a value into this node's arena under this id. With ``keep`` this process stays pinned to it. The raylet
        hears of it when next something is sent, before all others do."""
        line, pins, size = self._line, self._pins, data.size
        offset = -1
        try:
            with line.lock:
                offset = pins.span.place(size)
                ahead = pins.ahead(size) if offset < 0 else 0
            if offset < 0:
                offset = self._alloc(ident, size, ahead)
            data.write_into(self._space(offset, size), copy)
        except BaseException:
            self._not_written(offset, size)
            raise
        with line.lock:
            pins.sealed(ident, offset, size, keep)

    def reserve(self, ident: bytes, size: int) -> tuple[int, memoryview]:
        """Space in this node's arena for an object of this id alone: where it is, and a view to write into. Raises
        ObjectStoreFullError."""
        offset = self._alloc(ident, size)
        try:
            return offset, self._space(offset, size)
        except BaseException:
            self._not_written(offset, size)
            raise

    def _space(self, offset: int, size: int) -> memoryview:
        """Granted space, to write into."""
        try:
            return self.arena.writable(offset, size)
        except OSError as error:
            raise exceptions.ObjectStoreFullError(
                f"this node has no memory for {size} bytes more in the object store ({error.strerror}); its "
                "size is a promise that the machine (or the job's memory limit) did not keep: set a smaller one"
            ) from None

    def _not_written(self, offset: int, size: int) -> None:
        if offset >= 0:
            with self._line.lock:
                self.abandon(offset, size)

    def seal(self, ident: bytes, offset: int, size: int) -> None:
        """All is written: from now on it can be read (the lock is held)."""
        self._pins.sealed(ident, offset, size, keep=True)
        self._line.send_left()

    def abandon(self, offset: int, size: int) -> None:
        """Give space back that is not sealed (the lock is held)."""
        self._pins.abandoned(offset, size)
        self._line.send_left()

    def _alloc(self, ident: bytes, size: int, ahead: int = 0) -> int:
        """Space in the arena from the raylet, and perhaps a span of ``ahead`` bytes. One whose store is full answers
        when there is room, or that there will be none."""
        line = self._line
        line.flush()
        answer: Allocated = self._conversation.ask(lambda req: (line.machine.raylet, Alloc(req, size, ident, ahead)))
        if answer.offset < 0:
            raise exceptions.ObjectStoreFullError(answer.why)
        return answer.offset

    # -------------------------------------------------------------- reading

    def view(self, ident: bytes, result: Result, until: float | None) -> memoryview:
        """A read-only view of a stored object, pinned as long as the view lives. Raises GetTimeoutError if it is not on
        this node ``until`` then."""
        with self._line.lock:
            pin = self.pins.get(ident)
            if pin is not None:
                pin.views += 1
        if pin is None:
            pin = self._fetch(ident, result, until)
        return anchored(self.arena.readable(pin.offset, pin.size), self._view_ended, pin)

    def _fetch(self, ident: bytes, result: Result, until: float | None) -> Pin:
        """Have the raylet bring the object here; the pin that comes back counts one view for us."""
        line = self._line
        if until is not None and line.addr.node in result.nodes:
            until += HERE_S
        with line.lock:
            line.check_lost()
            coming = self._pins.fetch(ident, result, Waiter(1))
            line.send_left()
        arrived = False
        try:
            arrived = line.wait_for(coming.waiter, None if until is None else max(0.0, until - time.monotonic()))
        finally:
            if not arrived:
                with line.lock:
                    self._pins.fetch_no_more(ident, coming)
        if not arrived:
            raise exceptions.GetTimeoutError(f"object {ident.hex()} did not arrive on this node in time")
        answer = coming.outcome
        if answer is None:
            raise exceptions.SessionLostError(f"the session is gone: {line.lost}")
        if isinstance(answer, Fetched):
            raise _failure(ident, answer)
        assert isinstance(answer, Pin)
        return answer

    def bring(
        self, wanted: Iterable[tuple[bytes, Result]], waiter: Waiter | None = None, arrived: set[bytes] | None = None
    ) -> None:
        """Have the raylet bring these here (see `Pins.bring`; the lock is held)."""
        self._pins.bring(wanted, waiter, arrived)
        if not self._line.lost:
            self._line.send_left()

    def bring_no_more(self, idents: list[bytes], waiter: Waiter) -> None:
        """The waiter does not wait for these any more (the lock is held)."""
        self._pins.bring_no_more(idents, waiter)

    def admit(self, stored: Mapping[bytes, Result]) -> list[Pin]:
        """Pin the arguments of a task, all or none (see `Pins.admit`). Raises as `view` does."""
        line = self._line
        with line.lock:
            line.check_lost()
            coming = self._pins.admit(stored, Waiter(1))
            line.send_left()
        arrived = False
        try:
            arrived = line.wait_for(coming.waiter, None)
        finally:
            if not arrived:
                with line.lock:
                    self._pins.admit_no_more(coming)
        answer = coming.outcome
        if answer is None:
            raise exceptions.SessionLostError(f"the session is gone: {line.lost}")
        if isinstance(answer, FetchedAll):
            raise _failure(answer.bad, answer)
        assert isinstance(answer, list)
        return answer


def _failure(ident: bytes, answer: Fetched | FetchedAll) -> exceptions.HpcError:
    if answer.cause == "no_room":
        return exceptions.ObjectStoreFullError(answer.why)
    return exceptions.CopiesLost(f"object {ident.hex()} is lost: {answer.why}", answer.lost, ident)
