"""What the workers of a node have run, and actors of its processes that have ended: kept by its raylet. Pure.

What has run is packed as workers hand it over. So it is known also of workers that were killed, but for their last two
seconds. All is kept within bounds: the oldest goes first, and what goes is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from msgspec import to_builtins

from hpc.core.events.notes import believed
from hpc.core.events.rows import ActorRow, KeptBatch, Page, shortened
from hpc.core.ids import Address
from hpc.core.wire import ActorsEnded, Answer, HistoryQuery, Message, Ran

#: Events of a node, and their bytes.
MAX_EVENTS = 200_000
MAX_BYTES = 64 << 20
#: Larger batches are not taken.
MAX_BATCH_BYTES = 4 << 20
#: Actors that have ended, with texts that are cut: about 10 MB in all at most.
MAX_ACTORS = 10_000
#: An answer has at most this many bytes, whatever was asked for.
MAX_PAGE_BYTES = 16 << 20


class _Batch(NamedTuple):
    serial: int
    proc: int
    events: int
    lost: int
    data: bytes


class History:
    """That of one node. ``outbox`` is its machine's."""

    def __init__(self, node: int, outbox: list[tuple[Address, Message]]) -> None:
        self.node = node
        self._outbox = outbox
        self._batches: deque[_Batch] = deque()
        self._serial = 0
        self.events = self.size_bytes = 0
        #: How many events were lost here, or were so before they came.
        self.dropped = 0
        #: By their ids; and how many are not here any more, or never came.
        self.actors: dict[str, ActorRow] = {}
        self.actors_dropped = 0
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            Ran: self.on_ran, HistoryQuery: self.on_query, ActorsEnded: self.on_actors_ended,
        }  # fmt: skip

    def on_ran(self, src: Address, msg: Ran) -> None:
        """A worker hands over what it ran."""
        if src.node != self.node:
            return
        lost, count = believed(msg.lost), believed(msg.count)
        self.dropped += lost
        if len(msg.data) > MAX_BATCH_BYTES:
            self.dropped += count
            return
        self._serial += 1
        self._batches.append(_Batch(self._serial, src.proc, count, lost, msg.data))
        self.events += count
        self.size_bytes += len(msg.data)
        while (self.events > MAX_EVENTS or self.size_bytes > MAX_BYTES) and len(self._batches) > 1:
            old = self._batches.popleft()
            self.events -= old.events
            self.size_bytes -= len(old.data)
            self.dropped += old.events

    def on_query(self, src: Address, msg: HistoryQuery) -> None:
        """Somebody wants a part of it."""
        self._outbox.append((src, Answer(msg.req, True, msgspec.msgpack.encode(self.page(msg)))))

    def page(self, msg: HistoryQuery) -> Page:
        """The newest of the batches that are meant, as far as they go into one answer."""
        found: list[KeptBatch] = []
        size, more = 0, False
        for one in reversed(self._batches):
            if msg.before and one.serial >= msg.before:
                continue
            if one.serial <= msg.since:
                break
            size += len(one.data)
            if found and size > min(msg.size, MAX_PAGE_BYTES):
                more = True
                break
            found.append(KeptBatch(one.serial, one.proc, one.lost, one.data))
        oldest = self._batches[0].serial if self._batches else self._serial + 1
        return Page(found, more, oldest, self.events, self.dropped)

    def on_actors_ended(self, src: Address, msg: ActorsEnded) -> None:
        """A process of this node tells of actors that it owned."""
        if src.node != self.node:
            return
        self.actors_dropped += believed(msg.lost)
        for row in msg.rows:
            shortened(row)
            self.actors.pop(row.actor_id, None)
            self.actors[row.actor_id] = row
        while len(self.actors) > MAX_ACTORS:
            del self.actors[next(iter(self.actors))]
            self.actors_dropped += 1

    def actor_rows(self, limit: int) -> list[dict[str, Any]]:
        """Actors that have ended, the newest first. Where some are missing a row without an id says how many."""
        rows = [to_builtins(row) for row in islice(reversed(self.actors.values()), limit)]
        return [{"actor_id": "", "dropped": self.actors_dropped}, *rows] if self.actors_dropped else rows
