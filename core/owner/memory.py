"""A process's use of its node's arena: storing values, reading them without a copy, and letting them go.

A pin keeps an object where it is. This process has at most one pin per object at its raylet; it is given back when
neither an entry of the owner's machine nor any view needs it. Views end in the garbage collector, at any time, in any
thread, so their end only appends to a deque.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from hpc.core import exceptions, serialization
from hpc.core.owner.tables import Entry, Waiter
from hpc.core.store.arena import Arena, anchored, copy
from hpc.core.wire import Abandon, Alloc, Allocated, Fetch, Fetched, Message, Result, Seal, Unpin

if TYPE_CHECKING:
    from hpc.core.owner.client import Client

#: How long a full object store is asked again before that is an error.
FULL_STORE_S = 1.0


class Pin:
    """An object of the arena that this process may read."""

    __slots__ = ("entry", "ident", "offset", "size", "views")

    def __init__(self, ident: bytes, offset: int, size: int, entry: bool) -> None:
        self.ident = ident
        self.offset = offset
        self.size = size
        self.entry = entry
        self.views = 0


class Memory:
    """The pins of one process. Methods that say so are called with the client's lock held."""

    def __init__(self, client: Client, arena: Arena) -> None:
        self.client = client
        self.arena = arena
        self.pins: dict[bytes, Pin] = {}
        self.unviewed: deque[Pin] = deque()
        self._fetching: dict[bytes, list[list[Any]]] = {}

    # -------------------------------------------------------------- writing

    def store(self, ident: bytes, data: serialization.Serialized, keep: bool = True) -> None:
        """Write a value into this node's arena under this id. With ``keep`` this process stays pinned to it."""
        client = self.client
        raylet = client.machine.raylet
        offset = self._alloc(ident, data.size)
        try:
            data.write_into(self.arena.writable(offset, data.size), copy)
        except BaseException as error:
            with client.lock:
                client.send_now(raylet, [Abandon(offset)])
            if isinstance(error, OSError):
                raise exceptions.ObjectStoreFullError(
                    f"this node has no memory for {data.size} bytes more in the object store ({error.strerror}); its "
                    "size is a promise that the machine (or the job's memory limit) did not keep: set a smaller one"
                ) from None
            raise
        messages: list[Message] = [Seal(ident, offset, data.size)]
        with client.lock:
            if keep:
                self.pins[ident] = Pin(ident, offset, data.size, True)
            else:
                messages.append(Unpin([ident]))
            client.send_now(raylet, messages)

    def _alloc(self, ident: bytes, size: int) -> int:
        """Space in the arena. When it is full, references that were just dropped get a moment to be noticed."""
        client = self.client
        deadline = time.monotonic() + FULL_STORE_S
        while True:
            client.flush()
            answer: Allocated = client.request(lambda req: (client.machine.raylet, Alloc(req, size, ident)))
            if answer.offset >= 0:
                return answer.offset
            if time.monotonic() > deadline:
                raise exceptions.ObjectStoreFullError(answer.why)
            client.wait_for(Waiter(1), 0.02)

    # -------------------------------------------------------------- reading

    def view(self, ident: bytes, result: Result, timeout_s: float | None) -> memoryview:
        """A read-only view of a stored object, pinned as long as the view lives."""
        with self.client.lock:
            pin = self.pins.get(ident)
            if pin is not None:
                pin.views += 1
        if pin is None:
            pin = self._fetch(ident, result, timeout_s)
        return anchored(self.arena.readable(pin.offset, pin.size), self.unviewed.append, pin)

    def _fetch(self, ident: bytes, result: Result, timeout_s: float | None) -> Pin:
        """Have the raylet bring the object here; the pin that comes back counts one view for us."""
        client = self.client
        waiter = Waiter(1)
        slot: list[Any] = [waiter, None]
        with client.lock:
            client.check_lost()
            waiting = self._fetching.setdefault(ident, [])
            waiting.append(slot)
            if len(waiting) == 1:
                client.send_now(client.machine.raylet, [Fetch(ident, result.size, list(result.nodes))])
        if not client.wait_for(waiter, timeout_s):
            with client.lock:
                if slot[1] is None:
                    waiting.remove(slot)
                else:
                    self.unviewed.append(slot[1])
            raise exceptions.GetTimeoutError(f"object {ident.hex()} did not arrive on this node within {timeout_s} s")
        answer = slot[1]
        if answer is None:
            raise exceptions.SessionLostError(f"the session is gone: {client.lost}")
        if isinstance(answer, Fetched):
            if "no room" in answer.why:
                raise exceptions.ObjectStoreFullError(answer.why)
            raise exceptions.CopiesLost(f"object {ident.hex()} is lost: {answer.why}", answer.lost)
        assert isinstance(answer, Pin)
        return answer

    def fetched(self, msg: Fetched) -> None:
        """The raylet's answer (the lock is held)."""
        machine = self.client.machine
        waiting = self._fetching.pop(msg.ident, [])
        outcome: Any = msg
        if msg.offset >= 0:
            entry: Entry | None = machine.objects.get(msg.ident)
            outcome = Pin(msg.ident, msg.offset, msg.size, entry is not None)
            outcome.views = len(waiting)
            self.pins[msg.ident] = outcome
            if entry is not None:
                entry.pinned = True
            elif not waiting:
                self._give_back([msg.ident])
        for slot in waiting:
            slot[1] = outcome
            slot[0].needed = 0
            machine.woken.append(slot[0])

    def lose(self) -> None:
        """The session is gone: whoever waits for an object is woken (the lock is held)."""
        for waiting in self._fetching.values():
            for slot in waiting:
                slot[0].needed = 0
                self.client.machine.woken.append(slot[0])
        self._fetching.clear()

    # -------------------------------------------------------------- letting go

    def let_go(self) -> None:
        """Give back the pins that neither an entry nor a view needs any more (the lock is held)."""
        pins = self.pins
        gone: list[bytes] = []
        for ident in self.client.machine.unpinned:
            pin = pins.get(ident)
            if pin is not None:
                pin.entry = False
                if not pin.views:
                    gone.append(ident)
        self.client.machine.unpinned.clear()
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
        self.client.send_now(self.client.machine.raylet, [Unpin(idents)])
