"""What a process may read in its node's arena: pins, what is on its way here, and what is let go.

A pin keeps an object where it is; this process has at most one per object at its raylet. Views need it. Without views
it is only kept so that reading again costs nothing. It is given back when the object's entry goes, or when the raylet
asks because it needs room. Views end in the garbage collector, at any time, in any thread, so their end only appends to
a deque (``unviewed``), which `let_go` reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from msgspec import Struct

from hpc.core.ids import Address
from hpc.core.owner.span import Span
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import Waiter
from hpc.core.wire import (
    Abandon,
    Allocated,
    AllSealed,
    AskSealed,
    Fetch,
    FetchAll,
    Fetched,
    FetchedAll,
    PleaseUnpin,
    Result,
    Seal,
    Unpin,
)

#: Objects of so many bytes together are given back at once.
PROMPT_BYTES = 1 << 20


class Pin:
    """An object of the arena that this process may read."""

    __slots__ = ("entry", "ident", "offset", "size", "views")

    def __init__(self, ident: bytes, offset: int, size: int, entry: bool) -> None:
        self.ident = ident
        self.offset = offset
        self.size = size
        self.entry = entry
        self.views = 0


class Coming(Struct, eq=False):
    """What a reader waits for: one object, or the arguments of a task. ``outcome`` is the pin or pins, or the raylet's
    message that says why there is none. It is None while nothing has come, and when the session is gone."""

    waiter: Waiter
    outcome: Pin | list[Pin] | Fetched | FetchedAll | None = None
    #: The number of the question to the raylet, for the arguments of a task.
    number: int = 0


class Pins:
    """The pins of one process, and what its raylet is asked for."""

    def __init__(self, state: OwnerState) -> None:
        self.raylet, self.send = state.raylet, state.send
        self.entries, self.woken, self.unpinned = state.entries, state.woken, state.unpinned
        #: What this process may read, and the pins of which a view has ended.
        self.held: dict[bytes, Pin] = {}
        self.unviewed: deque[Pin] = deque()
        #: The objects that were asked for, with their readers; those whose coming is waited for; arguments of tasks.
        self.fetching: dict[bytes, list[Coming]] = {}
        self.arrivals: dict[bytes, list[tuple[Waiter, set[bytes]]]] = {}
        self.admitting: dict[int, Coming] = {}
        self._admissions = 0
        #: Where values are placed without asking for room.
        self.span = Span()

    # -------------------------------------------------------------- written here

    def ahead(self, size: int) -> int:
        """The span to ask for beside room for a value that has none in this one. The rest of this one is given back
        first, so that what is given now can begin there and leaves no hole."""
        wanted = self.span.wanted(size)
        if wanted:
            self._abandon_rest(*self.span.give_back())
        return wanted

    def allocated(self, msg: Allocated) -> None:
        """Room was found, and perhaps a span beside it."""
        if msg.ahead:
            self._abandon_rest(*self.span.take(msg.span, msg.ahead))

    def sealed(self, ident: bytes, offset: int, size: int, keep: bool) -> None:
        """A value has been written. With ``keep`` this process stays pinned to it."""
        self.send(self.raylet, Seal(ident, offset, size, keep))
        if keep:
            self.held[ident] = Pin(ident, offset, size, True)

    def abandoned(self, offset: int, size: int) -> None:
        """Room is not written to the end."""
        self.send(self.raylet, Abandon(offset, size))

    def _abandon_rest(self, offset: int, size: int) -> None:
        if size:
            self.send(self.raylet, Abandon(offset, size))

    def tick(self, now: float) -> None:
        """A process that stores nothing keeps no span."""
        if self.span.left and self.span.is_idle(now):
            self._abandon_rest(*self.span.give_back())

    def on_ask_sealed(self, src: Address, msg: AskSealed) -> None:
        """The raylet misses an object: what was sealed here is on its way before this answer."""
        self.send(self.raylet, AllSealed(msg.round))

    # -------------------------------------------------------------- asking

    def fetch(self, ident: bytes, result: Result, waiter: Waiter) -> Coming:
        """Have the raylet bring an object here; the pin that comes counts one view for the reader."""
        coming = Coming(waiter)
        waiting = self.fetching.get(ident)
        if waiting is None:
            waiting = self.fetching[ident] = []
            self.send(self.raylet, Fetch(ident, result.size, list(result.nodes)))
        waiting.append(coming)
        return coming

    def fetch_no_more(self, ident: bytes, coming: Coming) -> None:
        """The reader does not wait any more; what has come already is let go."""
        waiting = self.fetching.get(ident, ())
        if isinstance(coming.outcome, Pin):
            self.unviewed.append(coming.outcome)
        elif coming in waiting:
            self.fetching[ident].remove(coming)

    def bring(
        self, wanted: Iterable[tuple[bytes, Result]], waiter: Waiter | None = None, arrived: set[bytes] | None = None
    ) -> None:
        """Have the raylet bring these here, together. The waiter needs one less for each that has come or cannot come,
        which is then in ``arrived``."""
        for ident, result in wanted:
            if ident in self.held:
                if waiter is not None:
                    waiter.needed -= 1
                continue
            if ident not in self.fetching:
                self.fetching[ident] = []
                self.send(self.raylet, Fetch(ident, result.size, list(result.nodes)))
            if waiter is not None and arrived is not None:
                self.arrivals.setdefault(ident, []).append((waiter, arrived))

    def bring_no_more(self, idents: list[bytes], waiter: Waiter) -> None:
        """The waiter does not wait for these any more."""
        for ident in idents:
            left = [one for one in self.arrivals.pop(ident, ()) if one[0] is not waiter]
            if left:
                self.arrivals[ident] = left

    def admit(self, stored: Mapping[bytes, Result], waiter: Waiter) -> Coming:
        """Pin the arguments of a task, all or none, so that tasks whose arguments do not fit together take turns. The
        pins count one view each for the reader; the waiter needs nothing if all are pinned already."""
        coming = Coming(waiter)
        here = [self.held[ident] for ident in stored if ident in self.held]
        if len(here) == len(stored):
            for pin in here:
                pin.views += 1
            coming.outcome, waiter.needed = here, 0
            return coming
        self._admissions += 1
        coming.number = self._admissions
        self.admitting[coming.number] = coming
        results = stored.values()
        sizes, nodes = [r.size for r in results], [list(r.nodes) for r in results]
        self.send(self.raylet, FetchAll(coming.number, list(stored), sizes, nodes))
        return coming

    def admit_no_more(self, coming: Coming) -> None:
        """The reader does not wait any more; what has come already is let go."""
        self.admitting.pop(coming.number, None)
        if isinstance(coming.outcome, list):
            self.unviewed.extend(coming.outcome)

    # -------------------------------------------------------------- the raylet's messages

    def on_fetched(self, src: Address, msg: Fetched) -> None:
        waiting = self.fetching.pop(msg.ident, [])
        outcome: Pin | Fetched = msg
        if msg.offset >= 0:
            outcome = self._pinned(msg.ident, msg.offset, msg.size, len(waiting))
        for coming in waiting:
            coming.outcome = outcome
            self._wake(coming.waiter)
        for waiter, arrived in self.arrivals.pop(msg.ident, ()):
            arrived.add(msg.ident)
            waiter.needed -= 1
            if waiter.needed <= 0:
                self.woken.append(waiter)

    def on_fetched_all(self, src: Address, msg: FetchedAll) -> None:
        coming = self.admitting.pop(msg.req, None)
        outcome: list[Pin] | FetchedAll = msg
        if not msg.cause:
            views = 1 if coming is not None else 0
            places = zip(msg.idents, msg.offsets, msg.sizes)
            outcome = [self._pinned(ident, offset, size, views) for ident, offset, size in places]
        if coming is not None:
            coming.outcome = outcome
            self._wake(coming.waiter)

    def on_please_unpin(self, src: Address, msg: PleaseUnpin) -> None:
        """The raylet needs room. It is answered even if all pins have views."""
        self._abandon_rest(*self.span.give_back())
        for pin in self.held.values():
            pin.entry = False
        self._give_back([pin.ident for pin in self.held.values() if not pin.views])

    def _pinned(self, ident: bytes, offset: int, size: int, views: int) -> Pin:
        """The raylet has pinned an object for us: remember it, or give back what we had already."""
        pin = self.held.get(ident)
        if pin is not None:
            self.send(self.raylet, Unpin([ident]))
        else:
            entry = self.entries.get(ident)
            pin = self.held[ident] = Pin(ident, offset, size, entry is not None)
            if entry is not None:
                entry.pinned = True
        pin.views += views
        if not pin.views and not pin.entry:
            self._give_back([ident])
        return pin

    def lose(self) -> None:
        """The session is gone: those who wait for an object are woken."""
        for waiting in self.fetching.values():
            for coming in waiting:
                self._wake(coming.waiter)
        for coming in self.admitting.values():
            self._wake(coming.waiter)
        for ident, watching in self.arrivals.items():
            for waiter, arrived in watching:
                arrived.add(ident)
                self._wake(waiter)
        self.fetching.clear()
        self.arrivals.clear()
        self.admitting.clear()

    def _wake(self, waiter: Waiter) -> None:
        """The waiter needs nothing more."""
        waiter.needed = 0
        self.woken.append(waiter)

    # -------------------------------------------------------------- letting go

    def let_go(self) -> None:
        """Give back the pins that neither an entry nor a view needs any more. Word of small objects only goes with what
        else is sent: the raylet wakes for it otherwise, once for each task that reads one."""
        held = self.held
        gone: list[bytes] = []
        size = 0
        for ident in self.unpinned:
            pin = held.get(ident)
            if pin is not None:
                pin.entry = False
                if not pin.views:
                    gone.append(ident)
                    size += pin.size
        self.unpinned.clear()
        while self.unviewed:
            pin = self.unviewed.popleft()
            pin.views -= 1
            if not pin.views and not pin.entry and held.get(pin.ident) is pin:
                gone.append(pin.ident)
                size += pin.size
        if gone:
            self._give_back(gone, urgent=size >= PROMPT_BYTES)

    def _give_back(self, idents: list[bytes], urgent: bool = True) -> None:
        for ident in idents:
            self.held.pop(ident, None)
        self.send(self.raylet, Unpin(idents), urgent)
