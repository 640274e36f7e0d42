"""Values as the program meets them: get, wait, put, and references that arrive from elsewhere.

This part of a client decides nothing and speaks to nobody: it waits for entries of the machine and turns their
results into Python values.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from hpc.core import exceptions, serialization
from hpc.core.failures import error_of
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.shell.fetching import Ahead, ask_owners, wait_here
from hpc.core.owner.strangers import check_refs
from hpc.core.owner.tables import Entry, ErrorWatch, Needs, Waiter
from hpc.core.wire import INLINE, STORED, Result

if TYPE_CHECKING:
    from hpc.core.owner.pins import Pin
    from hpc.core.owner.ports import Home
    from hpc.core.owner.shell.arena_use import ArenaUse

unpickle = pickle.loads
PICKLED = serialization.PICKLED
#: The answer to who asks for a value that is there comes within this time; who waits longer waits for work.
ASKED_S = 0.01
#: Values up to this size travel inside messages; larger ones go through the arena.
INLINE_BYTES = 100 * 1024


def seconds_until(until: float | None) -> float | None:
    """How much of the time is left."""
    return None if until is None else max(0.0, until - time.monotonic())


class Values:
    """The part of a client that handles values."""

    def __init__(self, client: Home, arena_use: ArenaUse) -> None:
        self._client = client
        self.machine = client.machine
        self.arena_use = arena_use
        self._held_for_good: set[bytes] = set()

    # -------------------------------------------------------------- waiting, getting, putting

    def call_when_ready(self, ident: bytes, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the object has a value: from a thread of the runtime, or at once."""
        with self._client.lock:
            entry = self.machine.state.entries[ident]
            ready = entry.result is not None
            if not ready:
                self.machine.objects.await_value(entry, Waiter(1, callback))
                self._client.send_left()
        if ready:
            callback()

    def result_of(self, ident: bytes) -> Result | None:
        """What an object that this process holds has for a value; None if it has none yet."""
        entry = self.machine.state.entries.get(ident)
        return None if entry is None else entry.result

    def wait_for_entry(self, ident: bytes, timeout_s: float | None) -> bool:
        """Until an object that this process holds has a value; False after the timeout."""
        entry = self.machine.state.entries[ident]
        if entry.result is not None:
            return True
        waiter = Waiter(1)
        with self._client.lock:
            self._client.check_lost()
            if entry.result is None:
                self.machine.objects.await_value(entry, waiter)
                self.machine.leases.ask_exactly()
                self._client.send_left(everything=True)
            else:
                return True
        try:
            return self._client.wait_for(waiter, timeout_s, for_others=True, needs=Needs(lambda: [ident]))
        finally:
            if waiter.needed > 0:
                with self._client.lock:
                    self.machine.objects.await_no_more([ident], waiter)

    def _need(self, refs: Sequence[ObjectRef[Any]], at_least: int) -> Waiter:
        """A waiter for ``at_least`` of the references to have values."""
        machine = self.machine
        with self._client.lock:
            machine.objects.drain_dropped()
            self._client.check_lost()
            pending: dict[bytes, Entry] = {}
            ready: set[bytes] = set()
            for ref in refs:
                entry = machine.state.entries[ref._id]
                if entry.result is None:
                    pending[ref._id] = entry
                else:
                    ready.add(ref._id)
            waiter = Waiter(at_least - len(ready))
            if waiter.needed > 0:
                for entry in pending.values():
                    machine.objects.await_value(entry, waiter)
                machine.leases.ask_exactly()
            self._client.send_left(everything=True)
        return waiter

    def get(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None) -> list[Any]:
        """The values of the references, in order. Raises GetTimeoutError if they are not all here in time, or what the
        first failed one holds."""
        entries = self.machine.state.entries
        until = None if timeout_s is None else time.monotonic() + timeout_s
        for ref in refs:
            result = entries[ref._id].result
            if result is None or result.kind > STORED:
                self._wait_for_all(refs, timeout_s, until)
                break
        values = []
        ahead: Ahead | None = None
        for at, ref in enumerate(refs):
            result = entries[ref._id].result
            if result is not None and result.kind == INLINE and not result.inner and result.data[0] == PICKLED:
                try:
                    values.append(unpickle(result.data))  # what value_of would do, for the many that are so
                except Exception as error:
                    raise serialization.not_loaded(error) from error
            else:
                if result is not None and result.kind == STORED and len(refs) > 1:
                    ahead = ahead or Ahead(self._client, self.arena_use, refs, at)
                    ahead.reading(at)
                values.append(self.value_of(ref._id, until))
        return values

    def _wait_for_all(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None, deadline: float | None) -> None:
        """Until each of the references has a value. Raises what the first failed one holds as soon as one has failed.
        The own ones are waited for one at a time, the last one first. When it is there most others are, and nobody has
        to count them."""
        client, machine = self._client, self.machine
        waiter = Waiter(0)
        watch = ErrorWatch(waiter, lambda: {ref._id for ref in refs})
        with client.lock:
            machine.objects.drain_dropped()
            client.check_lost()
            pending: list[Entry] = []
            for ref in refs:
                entry = machine.state.entries[ref._id]
                if entry.result is None:
                    pending.append(entry)
                elif entry.result.kind > STORED:
                    pending.clear()  # it is known already that this raises
                    watch.failed = True
                    machine.state.unseen.difference_update([ref._id for ref in refs])
                    break
            if len(refs) > 1:
                machine.state.error_watches.append(watch)
            theirs = [entry for entry in pending if not entry.owned]
            for entry in theirs:
                waiter.needed += 1
                machine.objects.await_value(entry, waiter)
            asked = waiter.needed
            machine.leases.ask_exactly()
            self._await_last(pending, waiter)
            client.send_left(everything=True)
        resume = None
        try:
            if waiter.needed and timeout_s != 0 and not (waiter.needed == asked and self._comes_soon(waiter, deadline)):
                needs = Needs(lambda: [entry.ident for entry in (*pending, *theirs)])
                resume = client.hooks.before_wait(needs if timeout_s is None else None)
            while waiter.needed > 0 and not watch.failed:
                if not client.polling.wait(waiter, deadline):
                    client.check_closing()
                    left = sum(1 for ref in refs if machine.state.entries[ref._id].result is None)
                    raise exceptions.GetTimeoutError(f"{left} of {len(refs)} values were not there after {timeout_s} s")
                with client.lock:
                    if not watch.failed:
                        self._await_last(pending, waiter)
        finally:
            with client.lock:
                if len(refs) > 1:
                    machine.state.error_watches.remove(watch)
                if pending:
                    machine.objects.await_no_more([entry.ident for entry in pending], waiter)
            if resume is not None:
                resume()
        if watch.failed:
            self._raise_first(refs)

    def _raise_first(self, refs: Sequence[ObjectRef[Any]]) -> None:
        """Raise what the first of the references that have failed holds."""
        for ref in refs:
            result = self.machine.state.entries[ref._id].result
            if result is not None and result.kind > STORED:
                self.load(ref._id, result)

    def _comes_soon(self, waiter: Waiter, deadline: float | None) -> bool:
        """Whether all that is waited for is there within a moment. Mostly the owner of an object has its value and is
        only to be asked for it. That takes nobody's work, so a worker does not lend its CPU for it."""
        soon = time.monotonic() + ASKED_S
        return self._client.polling.wait(waiter, soon if deadline is None else min(soon, deadline))

    def _await_last(self, pending: list[Entry], waiter: Waiter) -> None:
        """Wait for the last of the entries that has no value (the lock is held); the ones behind it are taken out."""
        while pending:
            entry = pending[-1]
            if entry.result is None and entry.owned:
                waiter.needed += 1
                self.machine.objects.await_value(entry, waiter)
                return
            pending.pop()

    def wait(
        self, refs: Sequence[ObjectRef[Any]], num_returns: int, timeout_s: float | None, fetch_local: bool = True
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """Split the references in those with a value (at most ``num_returns``) and the rest, in their order. With
        ``fetch_local`` a value has to be on this node."""
        began = time.monotonic()
        found = self._ready(refs, num_returns)
        if len(found) < num_returns:
            waiter = self._need(refs, num_returns)
            try:
                needs = Needs(lambda: [ref._id for ref in refs], len(refs) - num_returns)
                self._client.wait_for(waiter, timeout_s, for_others=True, needs=needs)
            finally:
                if waiter.needed > 0:
                    self._forget_waiter(waiter, refs)
            self._client.check_lost()
            found = self._ready(refs, num_returns)
        if fetch_local and self._is_elsewhere([refs[index] for index in found]):
            left = None if timeout_s is None else max(0.0, timeout_s - (time.monotonic() - began))
            found = self._ready(refs, num_returns, wait_here(self._client, self.arena_use, refs, num_returns, left))
        rest = list(refs)
        for index in reversed(found):
            del rest[index]
        if self.machine.state.unseen:  # who knows that it is there can get it
            self.machine.state.unseen.difference_update([refs[index]._id for index in found])
        return [refs[index] for index in found], rest

    def _ready(self, refs: Sequence[ObjectRef[Any]], at_most: int, absent: Collection[bytes] = ()) -> list[int]:
        """Where in the list the first references are that have values, and are not ``absent``."""
        entries = self.machine.state.entries
        found: list[int] = []
        for index, ref in enumerate(refs):
            if entries[ref._id].result is not None and ref._id not in absent:
                found.append(index)
                if len(found) == at_most:
                    break
        return found

    def _is_elsewhere(self, refs: Sequence[ObjectRef[Any]]) -> bool:
        """Whether one of the values is on other nodes only."""
        entries, node = self.machine.state.entries, self.machine.addr.node
        for ref in refs:
            result = entries[ref._id].result
            if result is not None and result.kind == STORED and node not in result.nodes:
                return True
        return False

    def _forget_waiter(self, waiter: Waiter, refs: Sequence[ObjectRef[Any]]) -> None:
        with self._client.lock:
            self.machine.objects.await_no_more([ref._id for ref in refs], waiter)

    def value_of(self, ident: bytes, until: float | None) -> Any:
        """The value of an object that is known to have one; raises if it is an error, or not here ``until`` then."""
        entry = self.machine.state.entries[ident]
        while (result := entry.result) is None:  # its copies were lost just now, and it is made again
            if not self.wait_for_entry(ident, seconds_until(until)):
                raise exceptions.GetTimeoutError(f"object {ident.hex()} was lost, and not there again in time")
        return self.load(ident, result, until)

    def load(self, ident: bytes, result: Result, until: float | None = None) -> Any:
        """A result as a value."""
        kind = result.kind
        if kind == INLINE:
            return serialization.loads(result.data, ident if result.inner else None)
        if kind == STORED:
            return self._load_stored(ident, result, until)
        self.machine.state.unseen.discard(ident)
        raise error_of(result)

    def _load_stored(self, ident: bytes, result: Result, until: float | None) -> Any:
        while result.kind == STORED:
            try:
                view = self.arena_use.view(ident, result, until)
            except exceptions.CopiesLost as lost:
                result = self._result_anew(ident, lost, until)
            else:
                return serialization.loads(view, ident if result.inner else None)
        return self.load(ident, result, until)

    def admit(self, results: dict[bytes, Result]) -> list[Pin]:
        """Pin the stored ones among a task's arguments, all or none. A result that was asked for, or had to be made
        anew, replaces the one in ``results``. The pins count one view each for the caller."""
        ask_owners(self._client, results)
        while True:
            stored = {ident: result for ident, result in results.items() if result.kind == STORED}
            if len(stored) < 2:
                return []
            try:
                return self.arena_use.admit(stored)
            except exceptions.CopiesLost as lost:
                results[lost.ident] = self._result_anew(lost.ident, lost, None)

    def _result_anew(self, ident: bytes, lost: exceptions.CopiesLost, until: float | None) -> Result:
        """An object's copies could not be read: its owner is told, and has it made again or says that it is lost."""
        if not lost.nodes:
            raise lost
        waiter = Waiter(1)
        with self._client.lock:
            entry = self.machine.objects.hold(ident)
            error = self.machine.lineage.copies_lost(ident, lost.nodes)
            if error is None and entry.result is None:
                self.machine.objects.await_value(entry, waiter)
                self.machine.leases.ask_exactly()
            else:
                waiter.needed = 0
            self._client.send_left(everything=True)
        self._client.wake_done()
        try:
            if not self._client.wait_for(waiter, seconds_until(until), for_others=True):
                raise exceptions.GetTimeoutError(f"object {ident.hex()} was lost, and not there again in time")
            result = error or entry.result
            assert result is not None
            return result
        finally:
            with self._client.lock:
                self.machine.objects.let_go(ident)

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value; its pages are shared with all processes of the node if it is large."""
        self._client.check_lost()
        simple = serialization.dumps_simple(value)
        if simple is not None and len(simple) <= INLINE_BYTES:
            with self._client.lock:
                ident = self.machine.objects.put_inline(simple, [])
                if self.machine.dropped:
                    self.machine.objects.drain_dropped()
            return ObjectRef(ident, self._client)
        data = serialization.dumps(value)
        inner = [ref._id for ref in data.refs]
        check_refs(data.refs, self._client)
        if data.size <= INLINE_BYTES:
            packed = data.to_bytes()
            with self._client.lock:
                ident = self.machine.objects.put_inline(packed, inner)
                if self.machine.dropped:
                    self.machine.objects.drain_dropped()
            return ObjectRef(ident, self._client)
        with self._client.lock:
            ident = self.machine.new_ids()
        self.arena_use.store(ident, data)
        with self._client.lock:
            self.machine.objects.put_stored(ident, data.size, inner)
            self._client.send_left()
        return ObjectRef(ident, self._client)

    # -------------------------------------------------------------- references from elsewhere

    def hold_for_good(self, ident: bytes) -> None:
        """From now on the object lives as long as this process is in the session."""
        with self._client.lock:
            if ident not in self._held_for_good:
                self._held_for_good.add(ident)
                self.machine.objects.hold(ident)

    def adopt(self, ident: bytes) -> ObjectRef[Any]:
        """A reference was unpickled here: hold the object, and what it came in until its owner knows of us."""
        outer = serialization.context.outer
        met = serialization.context.met
        if met is not None:
            met.append(ident)
        with self._client.lock:
            self.machine.objects.hold(ident)
            if outer is not None:
                self.machine.objects.hold_until_acked(ident, outer)
            self._client.send_left()
        self._client.wake_done()
        return ObjectRef(ident, self._client)
