"""Values as the program meets them: get, wait, put, and references that arrive from elsewhere.

This half of the client decides nothing and speaks to nobody: it waits for entries of the machine and turns their
results into Python values.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hpc.core import exceptions, serialization
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.tables import Entry, Waiter
from hpc.core.wire import ERROR, INLINE, STORED, Result

if TYPE_CHECKING:
    from hpc.core.owner.machine import OwnerMachine
    from hpc.core.owner.memory import Memory, Pin

#: Values up to this size travel inside messages; larger ones go through the arena.
INLINE_BYTES = 100 * 1024


class Values:
    """The part of a client that handles values."""

    lock: threading.Lock
    machine: OwnerMachine
    memory: Memory

    def wait_for(self, waiter: Waiter, timeout_s: float | None, for_others: bool = False) -> bool:
        """Provided by the client."""
        raise NotImplementedError

    def check_lost(self) -> None:
        """Provided by the client."""
        raise NotImplementedError

    def _flush(self, everything: bool = False) -> None:
        raise NotImplementedError

    def _after(self) -> None:
        raise NotImplementedError

    # -------------------------------------------------------------- waiting, getting, putting

    def call_when_ready(self, ident: bytes, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the object has a value: from a thread of the runtime, or at once."""
        with self.lock:
            entry = self.machine.objects[ident]
            ready = entry.result is not None
            if not ready:
                self.machine.await_value(entry, Waiter(1, callback))
                self._flush()
        if ready:
            callback()

    def wait_for_entry(self, ident: bytes, timeout_s: float | None) -> bool:
        """Until an object that this process holds has a value; False after the timeout."""
        entry = self.machine.objects[ident]
        if entry.result is not None:
            return True
        waiter = Waiter(1)
        with self.lock:
            self.check_lost()
            if entry.result is None:
                self.machine.await_value(entry, waiter)
                self.machine.ask_exactly()
                self._flush(everything=True)
            else:
                return True
        return self.wait_for(waiter, timeout_s, for_others=True)

    def _need(self, refs: Sequence[ObjectRef[Any]], at_least: int) -> Waiter:
        """A waiter for ``at_least`` of the references to have values."""
        machine = self.machine
        with self.lock:
            machine.drain_dropped()
            self.check_lost()
            pending: dict[bytes, Entry] = {}
            ready: set[bytes] = set()
            for ref in refs:
                entry = machine.objects[ref._id]
                if entry.result is None:
                    pending[ref._id] = entry
                else:
                    ready.add(ref._id)
            waiter = Waiter(at_least - len(ready))
            if waiter.needed > 0:
                for entry in pending.values():
                    machine.await_value(entry, waiter)
                machine.ask_exactly()
            self._flush(everything=True)
        return waiter

    def get(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None) -> list[Any]:
        """The values of the references, in order. Raises GetTimeoutError, or what the first failed one holds."""
        objects = self.machine.objects
        if not all(objects[ref._id].result is not None for ref in refs):
            waiter = self._need(refs, len({ref._id for ref in refs}))
            if not self.wait_for(waiter, timeout_s, for_others=True):
                left = sum(1 for ref in refs if objects[ref._id].result is None)
                raise exceptions.GetTimeoutError(f"{left} of {len(refs)} values were not there after {timeout_s} s")
        return [self.value_of(ref._id, timeout_s) for ref in refs]

    def wait(
        self, refs: Sequence[ObjectRef[Any]], num_returns: int, timeout_s: float | None
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """Split the references in those with a value (at most ``num_returns``) and the rest, in their order."""
        waiter = self._need(refs, num_returns)
        self.wait_for(waiter, timeout_s, for_others=True)
        objects = self.machine.objects
        ready: list[ObjectRef[Any]] = []
        rest: list[ObjectRef[Any]] = []
        for ref in refs:
            done = len(ready) < num_returns and objects[ref._id].result is not None
            (ready if done else rest).append(ref)
        if waiter.needed > 0:
            self._forget_waiter(waiter, rest)
        return ready, rest

    def _forget_waiter(self, waiter: Waiter, refs: Sequence[ObjectRef[Any]]) -> None:
        with self.lock:
            for ref in refs:
                entry = self.machine.objects.get(ref._id)
                if entry is not None and entry.waiters and waiter in entry.waiters:
                    entry.waiters.remove(waiter)

    def value_of(self, ident: bytes, timeout_s: float | None = None) -> Any:
        """The value of an object that is known to have one; raises if it is an error."""
        entry = self.machine.objects[ident]
        result = entry.result
        assert result is not None
        return self.load(ident, result, timeout_s)

    def load(self, ident: bytes, result: Result, timeout_s: float | None = None) -> Any:
        """A result as a value."""
        kind = result.kind
        if kind == INLINE:
            return serialization.loads(result.data, ident if result.inner else None)
        if kind == STORED:
            try:
                view = self.memory.view(ident, result, timeout_s)
            except exceptions.CopiesLost as lost:
                return self.load(ident, self._result_anew(ident, lost, timeout_s), timeout_s)
            return serialization.loads(view, ident if result.inner else None)
        if kind == ERROR:
            raise exceptions.unpack_error(result.data)
        raise exceptions.from_system(result.data)

    def admit(self, results: dict[bytes, Result]) -> list[Pin]:
        """Pin the stored ones among a task's arguments, all or none; a result that had to be made anew replaces the old
        one in ``results``. The pins count one view each for the caller."""
        while True:
            stored = {ident: result for ident, result in results.items() if result.kind == STORED}
            if len(stored) < 2:
                return []
            try:
                return self.memory.admit(stored)
            except exceptions.CopiesLost as lost:
                results[lost.ident] = self._result_anew(lost.ident, lost, None)

    def _result_anew(self, ident: bytes, lost: exceptions.CopiesLost, timeout_s: float | None) -> Result:
        """An object's copies could not be read: its owner is told, and has it made again or says that it is lost."""
        if not lost.nodes:
            raise lost
        waiter = Waiter(1)
        with self.lock:
            entry = self.machine.hold(ident)
            self.machine.copies_lost(ident, lost.nodes)
            if entry.result is None:
                self.machine.await_value(entry, waiter)
                self.machine.ask_exactly()
            else:
                waiter.needed = 0
            self._flush(everything=True)
        self._after()
        try:
            if not self.wait_for(waiter, timeout_s, for_others=True):
                raise exceptions.GetTimeoutError(f"object {ident.hex()} was not there again after {timeout_s} s")
            result = entry.result
            assert result is not None
            return result
        finally:
            with self.lock:
                self.machine.let_go(ident)

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value; its pages are shared with all processes of the node if it is large."""
        data = serialization.dumps(value)
        inner = [ref._id for ref in data.refs]
        self.check_lost()
        if data.size <= INLINE_BYTES:
            packed = data.to_bytes()
            with self.lock:
                ident = self.machine.put_inline(packed, inner)
                if self.machine.dropped:
                    self.machine.drain_dropped()
            return ObjectRef(ident, self)  # type: ignore[arg-type]
        with self.lock:
            ident = self.machine.new_ids()
        self.memory.store(ident, data)
        with self.lock:
            self.machine.put_stored(ident, data.size, inner)
            self._flush()
        return ObjectRef(ident, self)  # type: ignore[arg-type]

    # -------------------------------------------------------------- references from elsewhere

    def adopt(self, ident: bytes) -> ObjectRef[Any]:
        """A reference was unpickled here: hold the object, and what it came in until its owner knows of us."""
        outer = serialization.context.outer
        met = serialization.context.met
        if met is not None:
            met.append(ident)
        with self.lock:
            self.machine.hold(ident)
            if outer is not None:
                self.machine.hold_until_acked(ident, outer)
            self._flush()
        self._after()
        return ObjectRef(ident, self)  # type: ignore[arg-type]
