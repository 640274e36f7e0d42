"""Events: what happened in the session, the newest first, with what to do. The rows are those of `hpc events`."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import Struct, structs

from hpc.core.events.rows import EventRow
from hpc.dashboard.pages.face import Answers, Page
from hpc.dashboard.pages.lists import counted
from hpc.dashboard.views import Params, listing
from hpc.state.events import EventFollower

COLUMNS = ("number", "time_ms", "severity", "kind", "node_id", "entity_id", "text", "count")
#: Events that the page keeps: as many as the head does.
MOST = 5_000


class Seen(Struct):
    """What the page knows: the newest events, and how many of the session are not among them."""

    rows: list[EventRow]
    missing: int


class Kept:
    """Asks for what is new each time, and keeps the rest."""

    def __init__(self) -> None:
        self._follower = EventFollower()
        self._rows: deque[EventRow] = deque(maxlen=MOST)

    def ask(self) -> Seen:
        """All that are kept."""
        self._rows.extend(self._follower.more())
        return Seen(list(self._rows), self._follower.last - len(self._rows))


def view(answers: Answers, params: Params) -> dict[str, Any]:
    """The events, with their numbers by severity and by kind; ``id`` chooses one."""
    seen: Seen = answers["events"]
    rows = [_row(row) for row in reversed(seen.rows)]
    chosen = params.text("id")
    return {
        **listing(rows, COLUMNS, params),
        "ones": [one for one in rows if chosen and str(one["number"]) == chosen][:1],
        "severities": counted(rows, "severity"),
        "kinds": counted(rows, "kind"),
        "missing": seen.missing,
    }


def _row(row: EventRow) -> dict[str, Any]:
    found = structs.asdict(row)
    found["time_ms"] = found.pop("time_s") * 1e3
    found["links"] = links(row)
    return found


def links(row: EventRow) -> list[list[Any]]:
    """Where more is to be seen of an event: words, the name of a page, and its parameters."""
    found: list[list[Any]] = []
    ident = row.entity_id
    if row.kind.startswith("WORKER_") and ident:
        found += [["what it wrote", "logs", {"worker": ident}], ["the worker", "workers", {"id": ident}]]
    elif row.kind.startswith("ACTOR_") and ident:
        found += [["what it wrote", "logs", {"actor": ident}], ["the actor", "actors", {"id": ident}]]
    elif row.kind.startswith("TASK_") and ident:
        found += [["what it wrote", "logs", {"task": ident}], ["the task", "tasks", {"id": ident}]]
    elif row.kind.startswith("GROUP_") and ident:
        found.append(["the group", "groups", {"id": ident}])
    if row.node_id:
        found.append([f"node {row.node_id}", "nodes", {"id": row.node_id}])
    return found


PAGE = Page("events", "Events", "e", ("events",), view)
