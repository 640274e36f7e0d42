"""The events of a session, as the head keeps them: the newest, numbered, with what was dropped counted. Pure.

What happens often is folded before it is kept. That is done by kind and node, then by kind over all nodes: so a storm
anywhere costs few rows. The rows are in the journal, one record each. A head that takes the place of another goes on
with their numbers. What happened while there was none it does not know, and says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any

import msgspec

from hpc.core.events.kinds import KINDS, EventKind
from hpc.core.events.notes import BURST, Folding, Note, believed, sane, shortened
from hpc.core.events.rows import EventPage, EventRow
from hpc.core.ids import HEAD, Address
from hpc.core.wire import EventQuery, Happened

#: Events that are kept.
MAX_EVENTS = 5_000
#: Of one kind on one node, and of one kind on all of them, so many are told one by one within 10 s.
NODE_BURST, KIND_BURST = BURST, 100
#: Notes that are taken from one message.
MAX_NOTES = 200


class Events:
    """The ring. ``answer(src, req, data)`` sends an answer; ``now`` is the head's clock, which others set."""

    def __init__(self, answer: Callable[[Address, int, bytes], None], now: float = 0.0) -> None:
        self.now = now
        #: How far the wall clock is ahead of the head's own; the shell says it.
        self.wall_ahead_s = 0.0
        self.number = 0
        #: The last number of the heads before.
        self.before = 0
        #: Told by nobody: who would have told them had no room.
        self.lost = 0
        self._answer = answer
        self._kept: deque[EventRow] = deque(maxlen=MAX_EVENTS)
        self._new: list[EventRow] = []
        self._by_node, self._by_kind = Folding(NODE_BURST), Folding(KIND_BURST)
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            Happened: self.on_happened, EventQuery: self.on_query,
        }  # fmt: skip

    # -------------------------------------------------------------- what happens

    def note(self, kind: EventKind, text: str, node: int = 0, entity: str = "") -> None:
        """Something has happened now, as the head itself has seen."""
        self._take(kind, Note(kind, text, node, entity))

    def note_once(self, kind: EventKind, text: str, node: int = 0) -> None:
        """The same for what a head that takes the place of another is told again: not where that has written it."""
        place = str(node) if node else ""
        if not any(row.kind == kind and row.text == text and row.node_id == place for row in self._of_others()):
            self.note(kind, text, node)

    def was_told(self, kind: EventKind) -> bool:
        """Whether a head before has told of something of this kind, as far as that is here still."""
        return any(row.kind == kind for row in self._of_others())

    def _of_others(self) -> Iterator[EventRow]:
        return takewhile(lambda row: row.number <= self.before, self._kept)

    def told(self, kind: str, text: str) -> None:
        """The launcher tells."""
        self.on_happened(HEAD, Happened([Note(kind, text)]))

    def on_happened(self, src: Address, msg: Happened) -> None:
        """A raylet or an owner tells."""
        self.lost += believed(msg.lost) + max(0, len(msg.notes) - MAX_NOTES)
        for note in msg.notes[:MAX_NOTES]:
            kind = _kind_of(note)
            if kind is None:
                self.lost += 1
            else:
                self._take(kind, sane(note))

    def _take(self, kind: EventKind, note: Note) -> None:
        told = self._by_node.take((kind, note.node), note, self.now)
        if told is not None:
            told = self._by_kind.take(kind, told, self.now)
        if told is not None:
            self._keep(kind, told)

    def _keep(self, kind: EventKind, note: Note) -> None:
        note = shortened(note)
        self.number += 1
        about = KINDS[kind]
        text = note.text if note.count == 1 else f"{note.count} of these, the last: {note.text}"
        time_s = round(self.now + self.wall_ahead_s - note.ago_s, 3)
        node = str(note.node) if note.node else ""
        row = EventRow(
            self.number, time_s, about.severity, kind, about.source, text, node, note.entity, about.advice, note.count
        )
        self._kept.append(row)
        self._new.append(row)

    def tick(self) -> None:
        """Keep what was folded for long enough."""
        if self._by_node.waits:
            for note in self._by_node.due(self.now):
                if (kind := _kind_of(note)) is not None and (
                    told := self._by_kind.take(kind, note, self.now)
                ) is not None:
                    self._keep(kind, told)
        if self._by_kind.waits:
            for note in self._by_kind.due(self.now):
                if (kind := _kind_of(note)) is not None:
                    self._keep(kind, note)

    # -------------------------------------------------------------- questions

    @property
    def dropped(self) -> int:
        """How many are not here: the oldest, and those that never came."""
        return self.number - len(self._kept) + self.lost

    def on_query(self, src: Address, msg: EventQuery) -> None:
        """Somebody wants some of them."""
        self._answer(src, msg.req, msgspec.msgpack.encode(self.page(msg.since, msg.limit)))

    def page(self, since: int, limit: int) -> EventPage:
        """The first after a number, or the last ones."""
        limit = max(0, min(limit, MAX_EVENTS))
        there = len(self._kept)
        first = self.number - there + 1  # the number of the oldest
        begin = max(0, there - limit) if since < 0 else max(0, min(there, since - first + 1))
        rows = [self._kept[at] for at in range(begin, min(there, begin + limit))]
        return EventPage(rows, self.number, self.dropped, begin + len(rows) < there)

    # -------------------------------------------------------------- what a restarted head must know

    def changes(self) -> Iterator[tuple[bytes, Any]]:
        """The rows that are new. That the oldest are gone follows from their number."""
        new, self._new = self._new, []
        for row in new:
            yield row.number.to_bytes(8, "big"), _plain(row)

    def rows(self) -> Iterator[tuple[bytes, Any]]:
        """All rows."""
        for row in self._kept:
            yield row.number.to_bytes(8, "big"), _plain(row)

    def load(self, key: bytes, data: Any) -> None:
        """Take over a row."""
        row = EventRow(*data)
        self._kept.append(row)
        self.number = self.before = max(self.number, row.number)


def _kind_of(note: Note) -> EventKind | None:
    """The kind with the note's name, if there is one."""
    kind: Any = note.name
    return kind if kind in KINDS else None


def _plain(row: EventRow) -> list[Any]:
    """What msgpack can hold."""
    return list(msgspec.structs.astuple(row))
