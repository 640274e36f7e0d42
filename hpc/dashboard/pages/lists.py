"""Tasks, actors, objects, workers and groups as lists: the rows of `hpc list`, and all of the chosen one. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hpc.dashboard.pages.face import Answers, Page, View
from hpc.dashboard.views import Params, Row, listing

TASKS = (
    "task_id", "name", "state", "node_id", "worker_id", "start_time_ms", "run_s", "attempt_number", "type", "why",
)  # fmt: skip
ACTORS = (
    "actor_id",
    "class_name",
    "name",
    "state",
    "node_id",
    "worker_id",
    "pid",
    "num_restarts",
    "is_detached",
    "why",
)
OBJECTS = (
    "object_id",
    "object_size_bytes",
    "state",
    "reference_type",
    "owner",
    "process",
    "node_ids",
    "local_count",
    "why",
)
WORKERS = (
    "worker_id", "worker_type", "state", "node_id", "pid", "is_actor", "leased_by", "blocked", "end_time_ms",
    "exit_brief",
)  # fmt: skip
GROUPS = ("placement_group_id", "name", "strategy", "state", "creator", "why")


def view_of(question: str, key: str, columns: tuple[str, ...]) -> View:
    """A list of the rows of a question; ``id`` chooses one of them, of which all is told."""

    def view(answers: Answers, params: Params) -> dict[str, Any]:
        rows = [shown(row) for row in answers[question]]
        chosen = params.text("id")
        ones = [row for row in rows if chosen and row[key] == chosen]
        return {**listing(rows, columns, params), "key": key, "ones": ones[:8], "states": counted(rows, "state")}

    return view


def shown(row: Row) -> dict[str, Any]:
    """A row with what is reckoned from its fields, under names that end in their units."""
    found = dict(row)
    if row.get("start_time_ms") and row.get("end_time_ms"):
        found["run_s"] = (row["end_time_ms"] - row["start_time_ms"]) / 1e3
    if "object_size" in row:
        found["object_size_bytes"] = found.pop("object_size")
    return found


def counted(rows: Iterable[Mapping[str, Any]], field: str) -> dict[str, int]:
    """How many rows have each value of a field, the most frequent first."""
    found: dict[str, int] = {}
    for row in rows:
        found[row[field]] = found.get(row[field], 0) + 1
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def objects_view(answers: Answers, params: Params) -> dict[str, Any]:
    """Objects, with the bytes that each owner has."""
    found = view_of("objects", "object_id", OBJECTS)(answers, params)
    owners: dict[str, dict[str, Any]] = {}
    for row in answers["objects"]:
        if row["reference_type"] == "OWNED":
            one = owners.setdefault(row["owner"], {"owner": row["owner"], "objects": 0, "all_bytes": 0})
            one["objects"] += 1
            one["all_bytes"] += row["object_size"]
    found["owners"] = sorted(owners.values(), key=lambda one: -one["all_bytes"])[:20]
    return found


TASKS_PAGE = Page("tasks", "Tasks", "3", ("tasks",), view_of("tasks", "task_id", TASKS))
ACTORS_PAGE = Page("actors", "Actors", "5", ("actors",), view_of("actors", "actor_id", ACTORS))
OBJECTS_PAGE = Page("objects", "Objects", "6", ("objects",), objects_view)
WORKERS_PAGE = Page("workers", "Workers", "7", ("workers",), view_of("workers", "worker_id", WORKERS))
GROUPS_PAGE = Page("groups", "Groups", "8", ("groups",), view_of("groups", "placement_group_id", GROUPS))
