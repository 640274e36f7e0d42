"""The state API: what there is and how it stands, with the names of ``ray.util.state``.

Rows are dicts whose fields are attributes too; their types are in `hpc.core.events.rows`. Nothing but events is
recorded centrally: each call asks the processes that know (see `hpc.state.gather`). So it shows what is there now, and
of tasks and actors that have ended those that their nodes remember.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import structs

from hpc.api.connection import ensure_client
from hpc.core.events.rows import NodeRow
from hpc.core.resources import from_units
from hpc.core.wire import PgTable
from hpc.state import events, gather
from hpc.state.actors import actor_rows
from hpc.state.runs import run_rows
from hpc.state.tasks import task_rows
from hpc.state.worker_logs import get_log, list_logs
from hpc.util.state import exception, selecting, summaries
from hpc.util.state.selecting import DEFAULT_LIMIT, Filter, Row, Selection

#: Options of Ray's state API that mean nothing here.
MEANINGLESS = {"address", "detail", "timeout", "raise_on_missing_output", "_explain"}


def _check(other: dict[str, Any]) -> None:
    unknown = sorted(set(other) - MEANINGLESS)
    if unknown:
        raise TypeError(f"the state API has no option {', '.join(unknown)}")


def list_nodes(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """The nodes, those that have died too."""
    _check(other)
    chosen = Selection(selecting.NODES, filters, limit)
    return chosen.of(structs.asdict(_node_row(row)) for row in gather.node_rows() if not row["gateway"])


def _node_row(row: dict[str, Any]) -> NodeRow:
    return NodeRow(
        node_id=str(row["node"]),
        node_ip=row["endpoint"].removeprefix("tcp://").rpartition(":")[0],
        node_name=row["host"],
        state="ALIVE" if row["alive"] else "DEAD",
        state_message=row["why"],
        is_suspect=row["suspect"],
        resources_total=from_units(row["totals"]),
        resources_available=from_units(row["free"]),
        labels=row["labels"],
        workers=row["workers"],
        waiting=row["waiting"],
    )


def list_workers(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """Drivers and workers, with what they hold; then the workers that have ended, as far as their nodes remember."""
    _check(other)
    chosen = Selection(selecting.WORKERS, filters, limit)
    rows = gather.from_raylets("workers").warn("list_workers") + gather.from_raylets("ended").warn("list_workers")
    return chosen.of(rows)


def list_tasks(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """Tasks and actors' calls that are not finished, and then finished and failed ones, the newest first."""
    _check(other)
    chosen = Selection(selecting.TASKS, filters, limit)
    return chosen.of(task_rows())


def list_actors(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """Actors, as their owners know them; then those that have ended, as far as nodes remember them."""
    _check(other)
    chosen = Selection(selecting.ACTORS, filters, limit)
    return chosen.of(actor_rows())


def list_objects(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """Objects, once for each process that holds references to them."""
    _check(other)
    chosen = Selection(selecting.OBJECTS, filters, limit)
    return chosen.of(gather.from_processes("objects").warn("list_objects"))


def list_events(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """What happened in the session, the oldest first: the last ``limit`` events that pass the filters. Warns where the
    head keeps some no more."""
    _check(other)
    chosen = Selection(selecting.EVENTS, filters, gather.LIMIT)
    rows = chosen.of(_event_rows("list_events"))
    return rows[len(rows) - min(len(rows), selecting.checked_limit(limit)) :]


def list_cluster_events(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """The same with Ray's fields: severity, time (a text, of this machine's clock), source_type, message, event_id and
    custom_fields. The first ``limit`` of all, as Ray tells."""
    _check(other)
    chosen = Selection(selecting.CLUSTER_EVENTS, filters, limit)
    return chosen.of(
        {
            "severity": row["severity"],
            "time": str(datetime.fromtimestamp(int(row["time_s"]))),
            "source_type": row["source"],
            "message": row["text"],
            "event_id": str(row["number"]),
            "custom_fields": {name: row[name] for name in ("kind", "node_id", "entity_id", "advice", "count")},
        }
        for row in _event_rows("list_cluster_events")
    )


def _event_rows(what: str) -> list[dict[str, Any]]:
    page = events.read(limit=events.ALL)
    if page.dropped:
        warnings.warn(f"{what}: {page.dropped} older events are not kept any more", stacklevel=3)
    return [structs.asdict(row) for row in page.rows]


def list_jobs(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """The drivers that are connected."""
    _check(other)
    chosen = Selection(selecting.JOBS, filters, limit)
    workers = gather.from_raylets("workers").warn("list_jobs")
    drivers = [r for r in workers if r["worker_type"] == "DRIVER" and not r["is_guest"]]
    rows = [
        {
            "job_id": r["worker_id"],
            "type": "DRIVER",
            "status": "RUNNING",
            "node_id": r["node_id"],
            "driver_pid": r["pid"],
        }
        for r in drivers
    ]
    return chosen.of(rows)


def list_placement_groups(
    filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any
) -> list[Row]:
    """Placement groups, those that were removed as long as the head remembers them."""
    _check(other)
    chosen = Selection(selecting.GROUPS, filters, limit)
    answer = ensure_client().conversation.ask_head(lambda req: PgTable(req))
    found = msgspec.json.decode(answer.data) if answer.data else []
    rows = ({"placement_group_id": row.pop("group"), **row} for row in found)
    return chosen.of(rows)


def list_runs(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """The runs of libraries: trainings, searches, datasets that flow. Those that go on stand first, then the newest of
    the others, as far as their nodes remember them. Ray has no such list."""
    _check(other)
    chosen = Selection(selecting.RUNS, filters, limit)
    return chosen.of(run_rows())


def _one(rows: Sequence[Row], key: str, ident: str) -> Row | None:
    return next((row for row in rows if row[key] == ident), None)


def get_job(id: str, **other: Any) -> Row | None:
    """One connected driver by its job's id, or None."""
    _check(other)
    return _one(list_jobs(limit=gather.LIMIT), "job_id", id)


def get_node(id: str, **other: Any) -> Row | None:
    """One node by its id, or None."""
    _check(other)
    return _one(list_nodes(limit=gather.LIMIT), "node_id", id)


def get_worker(id: str, **other: Any) -> Row | None:
    """One worker or driver by its id, or None."""
    _check(other)
    return _one(list_workers(limit=gather.LIMIT), "worker_id", id)


def get_actor(id: str, **other: Any) -> Row | None:
    """One actor by its id, or None."""
    _check(other)
    return _one(list_actors(limit=gather.LIMIT), "actor_id", id)


def get_task(id: str, **other: Any) -> Row | list[Row] | None:
    """One task by its id: a row, a list of them if it had several attempts, or None."""
    _check(other)
    found = list_tasks([("task_id", "=", id)], gather.LIMIT)
    return found[0] if len(found) == 1 else found or None


def get_objects(id: str, **other: Any) -> list[Row]:
    """One object by its id: what each process that holds it knows."""
    _check(other)
    return list_objects([("object_id", "=", id)], gather.LIMIT)


def get_placement_group(id: str, **other: Any) -> Row | None:
    """One placement group by its id, or None."""
    _check(other)
    return _one(list_placement_groups(limit=gather.LIMIT), "placement_group_id", id)


def summarize_tasks(**other: Any) -> dict[str, Any]:
    """How many tasks and calls there are, by name and state:
    ``{"cluster": {"summary": {name: {"func_or_class_name", "type", "state_counts"}}, "total_tasks", ...}}``."""
    _check(other)
    return summaries.of_tasks(task_rows())


def summarize_actors(**other: Any) -> dict[str, Any]:
    """How many actors there are, by class and state:
    ``{"cluster": {"summary": {class: {"class_name", "state_counts"}}, "total_actors", ...}}``."""
    _check(other)
    return summaries.of_actors(list_actors(limit=gather.LIMIT))


def summarize_objects(**other: Any) -> dict[str, Any]:
    """How many references to objects there are and their MiB: ``{"cluster": {"summary": {"disabled": {"total_objects",
    "total_size_mb", ...}}, ...}}``. Where in a program an object was made is not recorded. So all are one group, which
    has Ray's name for that; ``task_state_counts`` counts the objects' own states."""
    _check(other)
    return summaries.of_objects(list_objects(limit=gather.LIMIT))


__all__ = [
    "Row",
    "exception",
    "get_actor",
    "get_job",
    "get_log",
    "get_node",
    "get_objects",
    "get_placement_group",
    "get_task",
    "get_worker",
    "list_actors",
    "list_cluster_events",
    "list_events",
    "list_jobs",
    "list_logs",
    "list_nodes",
    "list_objects",
    "list_placement_groups",
    "list_runs",
    "list_tasks",
    "list_workers",
    "summarize_actors",
    "summarize_objects",
    "summarize_tasks",
]
