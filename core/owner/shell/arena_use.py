"""A process's use of its node's arena: storing values, reading them without a copy, and letting them go.

A pin keeps an object where it is; this process has at most one per object at its raylet. Views need it. Without views
it is only kept so that reading again costs nothing: it is given back when the object's entry goes, or when the raylet
asks because it needs room. Views end in the garbage collector, at any time, in any thread, so their end only appends to
a deque.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpc.core import exceptions, serialization
from hpc.core.owner.tables import Entry, Waiter
from hpc.core.store.arena import Arena, anchored, copy
from hpc.core.wire import (
    Abandon,
    Alloc,
    Allocated,
    Fetch,
    FetchAll,
    Fetched,
    FetchedAll,
    Message,
    PleaseUnpin,
    Result,
    Seal,
    Unpin,
)

if TYPE_CHECKING:
    from hpc.core.owner.ports import Line
    from hpc.core.owner.shell.conversation import Conversation

#: What is on this node is read even when the time is over, if the raylet answers within this time.
HERE_S = 1.0


class Pin:
    """An object of the arena that this process may read."""

    __slots__ = ("entry", "ident", "offset", "size", "views")

    def __init__(self, ident: bytes, offset: int, size: int, entry: bool) -> None:
        self.ident = ident
        self.offset = offset
        self.size = size
        self.entry = entry
        self.views = 0


@dataclass(eq=False)
class Coming:
    """What a thread waits for: one object, or the arguments of a task. ``outcome`` is the pin or pins, or the raylet's
    message that says why there is none; None while nothing has come, or when the session is gone."""

    waiter: Waiter
    outcome: Pin | list[Pin] | Fetched | FetchedAll | None = None


class ArenaUse:
    """The pins of one process. Methods that say so are called with the client's lock held."""

    def __init__(self, line: Line, conversation: Conversation, arena: Arena) -> None:
        self._line = line
        self._conversation = conversation
        self.arena = arena
        self.pins: dict[bytes, Pin] = {}
        self.unviewed: deque[Pin] = deque()
        self._fetching: dict[bytes, list[Coming]] = {}
        self._arrivals: dict[bytes, list[tuple[Waiter, set[bytes]]]] = {}
        self._admitting: dict[int, Coming] = {}
        self._admissions = 0

    # -------------------------------------------------------------- writing

    def store(self, ident: bytes, data: serialization.Serialized, keep: bool = True) -> None:
        """Write a value into this node's arena under this id. With ``keep`` this process stays pinned to it."""
        line = self._line
        raylet = line.machine.raylet
        offset = self._alloc(ident, data.size)
        try:
            data.write_into(self.arena.writable(offset, data.size), copy)
        except BaseException as error:
            with line.lock:
                line.send_now(raylet, [Abandon(offset)])
            if isinstance(error, OSError):
                raise exceptions.ObjectStoreFullError(
                    f"this node has no memory for {data.size} bytes more in the object store ({error.strerror}); its "
                    "size is a promise that the machine (or the job's memory limit) did not keep: set a smaller one"
                ) from None
            raise
        messages: list[Message] = [Seal(ident, offset, data.size)]
        with line.lock:
            if keep:
                self.pins[ident] = Pin(ident, offset, data.size, True)
            else:
                messages.append(Unpin([ident]))
            line.send_now(raylet, messages)

    def _alloc(self, ident: bytes, size: int) -> int:
        """Space in the arena. A raylet whose store is full answers when there is room, or that there will be none."""
        line = self._line
        line.flush()
        answer: Allocated = self._conversation.ask(lambda req: (line.machine.raylet, Alloc(req, size, ident)))
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
        return anchored(self.arena.readable(pin.offset, pin.size), self.unviewed.append, pin)

    def _fetch(self, ident: bytes, result: Result, until: float | None) -> Pin:
        """Have the raylet bring the object here; the pin that comes back counts one view for us."""
        line = self._line
        waiter = Waiter(1)
        coming = Coming(waiter)
        if until is not None and line.addr.node in result.nodes:
            until += HERE_S
        with line.lock:
            line.check_lost()
            waiting = self._fetching.get(ident)
            if waiting is None:
                waiting = self._fetching[ident] = []
                line.send_now(line.machine.raylet, [Fetch(ident, result.size, list(result.nodes))])
            waiting.append(coming)
        arrived = False
        try:
            arrived = line.wait_for(waiter, None if until is None else max(0.0, until - time.monotonic()))
        finally:
            if not arrived:
                with line.lock:
                    if coming.outcome is None and coming in waiting:
                        waiting.remove(coming)
                    elif isinstance(coming.outcome, Pin):
                        self.unviewed.append(coming.outcome)
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
        """Have the raylet bring these here, together (the lock is held). The waiter needs one less for each that has
        come or cannot come, which is then in ``arrived``."""
        messages: list[Message] = []
        for ident, result in wanted:
            if ident in self.pins:
                if waiter is not None:
                    waiter.needed -= 1
                continue
            if ident not in self._fetching:
                self._fetching[ident] = []
                messages.append(Fetch(ident, result.size, list(result.nodes)))
            if waiter is not None and arrived is not None:
                self._arrivals.setdefault(ident, []).append((waiter, arrived))
        if messages and not self._line.lost:
            self._line.send_now(self._line.machine.raylet, messages)

    def bring_no_more(self, idents: list[bytes], waiter: Waiter) -> None:
        """The waiter does not wait for these any more (the lock is held)."""
        for ident in idents:
            left = [one for one in self._arrivals.pop(ident, ()) if one[0] is not waiter]
            if left:
                self._arrivals[ident] = left

    def admit(self, stored: Mapping[bytes, Result]) -> list[Pin]:
        """Pin the arguments of a task, all or none, so that tasks whose arguments do not fit together take turns. The
        pins that come back count one view each for the caller. Raises as `view` does."""
        line = self._line
        coming = Coming(Waiter(1))
        with line.lock:
            line.check_lost()
            here = [self.pins[ident] for ident in stored if ident in self.pins]
            if len(here) == len(stored):
                for pin in here:
                    pin.views += 1
                return here
            self._admissions += 1
            number = self._admissions
            self._admitting[number] = coming
            results = stored.values()
            request = FetchAll(number, list(stored), [r.size for r in results], [list(r.nodes) for r in results])
            line.send_now(line.machine.raylet, [request])
        arrived = False
        try:
            arrived = line.wait_for(coming.waiter, None)
        finally:
            if not arrived:
                with line.lock:
                    self._admitting.pop(number, None)
                    self.unviewed.extend(coming.outcome if isinstance(coming.outcome, list) else ())
        answer = coming.outcome
        if answer is None:
            raise exceptions.SessionLostError(f"the session is gone: {line.lost}")
        if isinstance(answer, FetchedAll):
            raise _failure(answer.bad, answer)
        assert isinstance(answer, list)
        return answer

    def handle(self, msg: Message) -> None:
        """A message of the raylet (the lock is held)."""
        if isinstance(msg, Fetched):
            self._fetched(msg)
        elif isinstance(msg, FetchedAll):
            self._fetched_all(msg)
        elif isinstance(msg, PleaseUnpin):
            for pin in self.pins.values():
                pin.entry = False
            self._give_back([pin.ident for pin in self.pins.values() if not pin.views])

    def _pinned(self, ident: bytes, offset: int, size: int, views: int) -> Pin:
        """The raylet has pinned an object for us: remember it, or give back what we had already."""
        pin = self.pins.get(ident)
        if pin is not None:
            self._line.send_now(self._line.machine.raylet, [Unpin([ident])])
        else:
            entry: Entry | None = self._line.machine.objects.get(ident)
            pin = self.pins[ident] = Pin(ident, offset, size, entry is not None)
            if entry is not None:
                entry.pinned = True
        pin.views += views
        if not pin.views and not pin.entry:
            self._give_back([ident])
        return pin

    def _fetched_all(self, msg: FetchedAll) -> None:
        coming = self._admitting.pop(msg.req, None)
        outcome: list[Pin] | FetchedAll = msg
        if not msg.cause:
            views = 1 if coming is not None else 0
            places = zip(msg.idents, msg.offsets, msg.sizes)
            outcome = [self._pinned(ident, offset, size, views) for ident, offset, size in places]
        if coming is not None:
            coming.outcome = outcome
            self._wake(coming.waiter)

    def _fetched(self, msg: Fetched) -> None:
        machine = self._line.machine
        waiting = self._fetching.pop(msg.ident, [])
        outcome: Pin | Fetched = msg
        if msg.offset >= 0:
            outcome = self._pinned(msg.ident, msg.offset, msg.size, len(waiting))
        for coming in waiting:
            coming.outcome = outcome
            self._wake(coming.waiter)
        for waiter, arrived in self._arrivals.pop(msg.ident, ()):
            arrived.add(msg.ident)
            waiter.needed -= 1
            if waiter.needed <= 0:
                machine.woken.append(waiter)

    def lose(self) -> None:
        """The session is gone: whoever waits for an object is woken (the lock is held)."""
        for waiting in self._fetching.values():
            for coming in waiting:
                self._wake(coming.waiter)
        for coming in self._admitting.values():
            self._wake(coming.waiter)
        for ident, watching in self._arrivals.items():
            for waiter, arrived in watching:
                arrived.add(ident)
                self._wake(waiter)
        self._fetching.clear()
        self._arrivals.clear()
        self._admitting.clear()

    def _wake(self, waiter: Waiter) -> None:
        """The waiter needs nothing more (the lock is held)."""
        waiter.needed = 0
        self._line.machine.woken.append(waiter)

    # -------------------------------------------------------------- letting go

    def let_go(self) -> None:
        """Give back the pins that neither an entry nor a view needs any more (the lock is held)."""
        pins = self.pins
        gone: list[bytes] = []
        for ident in self._line.machine.unpinned:
            pin = pins.get(ident)
            if pin is not None:
                pin.entry = False
                if not pin.views:
                    gone.append(ident)
        self._line.machine.unpinned.clear()
        while self.unviewed:
            pin = self.unviewed.popleft()
            pin.views -= 1
            if not pin.views and not pin.entry and pins.get(pin.ident) is pin:
                gone.append(pin.ident)
        if gone:
            self._give_back(gone)

    def _give_back(self, idents: list[bytes]) -> None:
        for ident in idents:
            self.pins.pop(ident, None)
        self._line.send_now(self._line.machine.raylet, [Unpin(idents)])


def _failure(ident: bytes, answer: Fetched | FetchedAll) -> exceptions.HpcError:
    if answer.cause == "no_room":
        return exceptions.ObjectStoreFullError(answer.why)
    return exceptions.CopiesLost(f"object {ident.hex()} is lost: {answer.why}", answer.lost, ident)
