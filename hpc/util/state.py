"""The state API: what there is and how it stands, with the names of ``ray.util.state``.

Rows are dicts whose fields are attributes too. Nothing is recorded centrally: each call asks the processes that know
(see `hpc.gather`), so it shows what is there now, and of finished tasks the newest 10,000 of each living worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hpc import gather
from hpc.connection import ensure_client
from hpc.core.resources import from_units
from hpc.core.wire import PgTable
from hpc.task_rows import task_rows
from hpc.worker_logs import get_log, list_logs

DEFAULT_LIMIT = 100
Filter = tuple[str, str, Any]


#: Options of Ray's state API that mean nothing here.
MEANINGLESS = {"address", "detail", "timeout", "raise_on_missing_output", "_explain"}


def _check(other: dict[str, Any]) -> None:
    unknown = sorted(set(other) - MEANINGLESS)
    if unknown:
        raise TypeError(f"the state API has no option {', '.join(unknown)}")


class Row(dict[str, Any]):
    """One thing; ``row.state`` is ``row["state"]``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no field {name!r}; there are: {', '.join(self)}") from None


def _select(rows: Iterable[dict[str, Any]], filters: Sequence[Filter] | None, limit: int) -> list[Row]:
    tests = []
    for one in filters or ():
        if len(one) != 3 or one[1] not in ("=", "!="):
            raise ValueError(f"a filter is (field, '=' or '!=', value), not {one!r}")
        tests.append(one)
    found = []
    for row in rows:
        if all((str(row.get(key, "")).lower() == str(value).lower()) == (op == "=") for key, op, value in tests):
            found.append(Row(row))
            if len(found) >= limit:
                break
    return found


def list_nodes(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """The nodes, those that have died too."""
    _check(other)
    rows = (
        {
            "node_id": str(row["node"]),
            "node_ip": row["endpoint"].removeprefix("tcp://").rpartition(":")[0],
            "node_name": row["host"],
            "state": "ALIVE" if row["alive"] else "DEAD",
            "state_message": row["why"],
            "is_suspect": row["suspect"],
            "resources_total": from_units(row["totals"]),
            "resources_available": from_units(row["free"]),
            "labels": row["labels"],
            "workers": row["workers"],
            "waiting": row["waiting"],
        }
        for row in gather.node_rows()
        if not row["gateway"]
    )
    return _select(rows, filters, limit)


def list_workers(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """Drivers and workers, with what they hold; then the workers that have ended, as far as their nodes remember."""
    _check(other)
    rows = gather.from_raylets("workers").warn("list_workers") + gather.from_raylets("ended").warn("list_workers")
    return _select(rows, filters, limit)


def list_tasks(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """Tasks and actors' calls that are not finished, and then finished and failed ones, the newest first."""
    _check(other)
    return _select(task_rows(), filters, limit)


def list_actors(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """Actors, as their owners know them; those that have died as long as somebody holds a handle."""
    _check(other)
    rows = gather.explain_setups(gather.from_processes("actors").warn("list_actors"))
    pids = {row["worker_id"]: row["pid"] for row in gather.from_raylets("workers").warn("list_actors")}
    for row in rows:
        row["pid"] = pids.get(row["worker_id"], 0)
    return _select(rows, filters, limit)


def list_objects(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """Objects, once for each process that holds references to them."""
    _check(other)
    return _select(gather.from_processes("objects").warn("list_objects"), filters, limit)


def list_jobs(filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any) -> list[Row]:
    """The drivers that are connected."""
    _check(other)
    drivers = [r for r in gather.from_raylets("workers").warn("list_jobs") if r["worker_type"] == "DRIVER"]
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
    return _select(rows, filters, limit)


def list_placement_groups(
    filters: Sequence[Filter] | None = None, limit: int = DEFAULT_LIMIT, **other: Any
) -> list[Row]:
    """Placement groups, those that were removed as long as the head remembers them."""
    _check(other)
    answer = ensure_client().conversation.ask_head(lambda req: PgTable(req))
    found = msgspec.json.decode(answer.data) if answer.data else []
    rows = ({"placement_group_id": row.pop("group"), **row} for row in found)
    return _select(rows, filters, limit)


def _one(rows: Iterable[dict[str, Any]], key: str, ident: str) -> Row | None:
    found = _select(rows, [(key, "=", ident)], 1)
    return found[0] if found else None


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
    found = _select(task_rows(), [("task_id", "=", id)], gather.LIMIT)
    return found[0] if len(found) == 1 else found or None


def get_objects(id: str, **other: Any) -> list[Row]:
    """One object by its id: what each process that holds it knows."""
    _check(other)
    return list_objects([("object_id", "=", id)], gather.LIMIT)


def get_placement_group(id: str, **other: Any) -> Row | None:
    """One placement group by its id, or None."""
    _check(other)
    return _one(list_placement_groups(limit=gather.LIMIT), "placement_group_id", id)


def _summary(rows: Iterable[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        group = groups.setdefault(str(row[name]), {"total": 0, "state_counts": {}})
        group["total"] += 1
        counts = group["state_counts"]
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    return groups


def summarize_tasks(**other: Any) -> dict[str, dict[str, Any]]:
    """Per name of a function or method: how many tasks there are, by state."""
    _check(other)
    return _summary(task_rows(), "name")


def summarize_actors(**other: Any) -> dict[str, dict[str, Any]]:
    """Per class: how many actors there are, by state."""
    _check(other)
    return _summary(list_actors(limit=gather.LIMIT), "class_name")


def summarize_objects(**other: Any) -> dict[str, dict[str, Any]]:
    """Per owner: how many objects there are, by state, and their bytes."""
    _check(other)
    rows = [row for row in list_objects(limit=gather.LIMIT) if row["reference_type"] == "OWNED"]
    groups = _summary(rows, "owner")
    for row in rows:
        group = groups[row["owner"]]
        group["bytes"] = group.get("bytes", 0) + row["object_size"]
    return groups


__all__ = [
    "Row",
    "get_actor",
    "get_log",
    "get_node",
    "get_objects",
    "get_placement_group",
    "get_task",
    "get_worker",
    "list_actors",
    "list_jobs",
    "list_logs",
    "list_nodes",
    "list_objects",
    "list_placement_groups",
    "list_tasks",
    "list_workers",
    "summarize_actors",
    "summarize_objects",
    "summarize_tasks",
]
