"""Fetching: several objects are brought to this node at the same time. That is done ahead of a `get` of a list, for
`wait`, and for small arguments for which a task's message had no room.

What is asked for ahead is pinned when it comes, as if it had been read before: the raylet can ask for it back. The
bytes that are asked for at a time are few enough for that not to matter, and enough to keep several nodes busy.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpc.core.owner.tables import Waiter
from hpc.core.wire import AT_OWNER, MAX_VALUES_BYTES, STORED, Result

if TYPE_CHECKING:
    from hpc.core.owner.ports import Line
    from hpc.core.owner.ref import ObjectRef
    from hpc.core.owner.shell.arena_use import ArenaUse

#: Bytes that are asked for ahead, and the part of the store that they are at most; one object may always be.
AHEAD_BYTES = 256 << 20
AHEAD_SHARE = 4


def window(arena_use: ArenaUse) -> int:
    """Bytes that may be on their way at the same time."""
    return min(AHEAD_BYTES, arena_use.arena.size_bytes // AHEAD_SHARE)


class Ahead:
    """The objects of one `get`, of which the next ones are asked for while one is read."""

    def __init__(self, line: Line, arena_use: ArenaUse, refs: Sequence[ObjectRef[Any]], at: int) -> None:
        self._line = line
        self._arena_use = arena_use
        self._refs = refs
        self._next = at
        self._coming = 0
        self._asked: dict[int, int] = {}

    def reading(self, at: int) -> None:
        """The object at this place is read now; those before it are."""
        arena_use, entries = self._arena_use, self._line.machine.state.entries
        self._coming -= self._asked.pop(at - 1, 0)
        limit = window(arena_use)
        wanted: list[tuple[bytes, Result]] = []
        while self._next < len(self._refs) and (self._coming < limit or not self._asked):
            ident = self._refs[self._next]._id
            result = entries[ident].result
            if result is not None and result.kind == STORED and ident not in arena_use.pins:
                if self._asked and self._coming + result.size > limit:
                    break
                wanted.append((ident, result))
                self._asked[self._next] = result.size
                self._coming += result.size
            self._next += 1
        if len(wanted) > 1 or (wanted and self._asked and at not in self._asked):
            with self._line.lock:
                arena_use.bring(wanted)


def ask_owners(line: Line, results: dict[bytes, Result]) -> None:
    """Ask owners for values that are still with them, and put them into the results. At a time it asks for as many
    bytes as one message may carry: raylets on the way keep what was not read yet."""
    missing = [ident for ident, result in results.items() if result.kind == AT_OWNER]
    machine = line.machine
    while missing:
        asked: list[bytes] = []
        size = 0
        while missing and (not asked or size + results[missing[-1]].size <= MAX_VALUES_BYTES):
            asked.append(missing.pop())
            size += results[asked[-1]].size
        waiter = Waiter(0)
        with line.lock:
            line.check_lost()
            entries = [machine.objects.hold(ident) for ident in asked]
        try:
            while any(entry.result is None for entry in entries):
                with line.lock:
                    pending = [entry for entry in entries if entry.result is None]
                    waiter.needed = len(pending)
                    for entry in pending:
                        machine.objects.await_value(entry, waiter)
                    line.send_left(everything=True)
                line.wait_for(waiter, None)
            for entry in entries:
                assert entry.result is not None
                results[entry.ident] = entry.result
        finally:
            with line.lock:
                machine.objects.let_go_all(asked)


def wait_here(
    line: Line, arena_use: ArenaUse, refs: Sequence[ObjectRef[Any]], num_returns: int, timeout_s: float | None
) -> set[bytes]:
    """Until ``num_returns`` of the objects have values that are on this node, or the time is over; which have not.

    One that cannot be brought here counts as ready: reading it says why.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    machine = line.machine
    node = machine.addr.node
    arrived: set[bytes] = set()
    while True:
        absent: list[tuple[bytes, Result]] = []
        pending: list[bytes] = []
        for ref in refs:
            ident = ref._id
            result = machine.state.entries[ident].result
            if result is None:
                pending.append(ident)
            elif result.kind == STORED and not (ident in arrived or node in result.nodes or ident in arena_use.pins):
                absent.append((ident, result))
        missing = {ident for ident, _ in absent} | set(pending)
        over = deadline is not None and time.monotonic() >= deadline
        if len(refs) - len(missing) >= num_returns or (not absent and over):
            return missing
        waiter = Waiter(1)
        few: list[tuple[bytes, Result]] = []
        size = 0
        for ident, result in absent:
            if few and size + result.size > window(arena_use):
                break
            few.append((ident, result))
            size += result.size
        with line.lock:
            for ident in pending:
                entry = machine.state.entries[ident]
                if entry.result is None:
                    machine.objects.await_value(entry, waiter)
                else:
                    waiter.needed = 0
            arena_use.bring(few, waiter, arrived)
        try:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            line.wait_for(waiter, left, for_others=True)
        finally:
            with line.lock:
                arena_use.bring_no_more([ident for ident, _ in few], waiter)
                machine.objects.await_no_more(pending, waiter)
        if over:
            missing -= arrived
            return missing
