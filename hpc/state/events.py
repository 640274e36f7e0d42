"""What has happened in a session: the events that its head keeps, in their order, from any one on."""

from __future__ import annotations

from hpc.api.connection import ensure_client
from hpc.core.events.rows import EventPage, EventRow, unpack_events
from hpc.core.wire import EventQuery
from hpc.state import gather

#: Events that one question brings.
PAGE = 1_000
#: All that a head keeps, and more.
ALL = 100_000


def read(since: int = -1, limit: int = PAGE, timeout_s: float = gather.HEAD_S) -> EventPage:
    """The first ``limit`` events after number ``since``; below 0: the last ones. ``since=0``: from the first on."""
    first = _ask(since, min(limit, PAGE if since >= 0 else ALL), timeout_s)
    rows, page = first.rows, first
    while page.more and page.rows and len(rows) < limit and since >= 0:
        page = _ask(rows[-1].number, min(limit - len(rows), PAGE), timeout_s)
        rows += page.rows
    return EventPage(rows, page.last, page.dropped, page.more)


def _ask(since: int, limit: int, timeout_s: float) -> EventPage:
    answer = ensure_client().conversation.ask_head(lambda req: EventQuery(req, since, limit), timeout_s)
    return unpack_events(answer.data)


class EventFollower:
    """Brings what has happened since it was asked last. ``missed``: so many went between two questions, because there
    were more than the head keeps."""

    def __init__(self, since: int = 0) -> None:
        self.last = since
        self.missed = 0

    def more(self, limit: int = ALL, timeout_s: float = gather.HEAD_S) -> list[EventRow]:
        """The next ones, in their order."""
        page = read(self.last, limit, timeout_s)
        if page.rows:
            self.missed += max(0, page.rows[0].number - self.last - 1)
            self.last = page.rows[-1].number
        elif page.last < self.last:  # a head that was killed had not written the last ones down
            self.last = page.last
        return page.rows


def words(row: EventRow) -> str:
    """An event in one line without its time: how grave, of which kind, what, and what to do."""
    advice = f" [{row.advice}]" if row.advice else ""
    return f"{row.severity:7} {row.kind:20} {row.text}{advice}"


__all__ = ["EventFollower", "EventPage", "EventRow", "read", "words"]
