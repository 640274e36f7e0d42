"""Rows of the state API, counted: the form is that of Ray's summaries, one for the whole session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
#: Ray's name for the group of all objects where the places that make them are not recorded.
ALL_OBJECTS = "disabled"
MIB = 1 << 20


def of_tasks(rows: Sequence[Row]) -> dict[str, Any]:
    """By name, with the totals of tasks, calls and makings of actors."""
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        made = {"func_or_class_name": row["name"], "type": row["type"], "state_counts": {}}
        _count(groups.setdefault(row["name"], made), row["state"])
    types = Counter(row["type"] for row in rows)
    return _cluster(
        groups,
        "func_name",
        total_tasks=types["NORMAL_TASK"],
        total_actor_tasks=types["ACTOR_TASK"],
        total_actor_scheduled=types["ACTOR_CREATION_TASK"],
    )


def of_actors(rows: Sequence[Row]) -> dict[str, Any]:
    """By class."""
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        made = {"class_name": row["class_name"], "state_counts": {}}
        _count(groups.setdefault(row["class_name"], made), row["state"])
    return _cluster(groups, "class", total_actors=len(rows))


def of_objects(rows: Sequence[Row]) -> dict[str, Any]:
    """All in one group. An object's bytes count once, at its owner."""
    size_mb = sum(row["object_size"] for row in rows if row["reference_type"] == "OWNED") / MIB
    totals = {"total_objects": len(rows), "total_size_mb": size_mb}
    group = {
        **totals,
        "total_num_workers": len({row["process"] for row in rows}),
        "total_num_nodes": len({row["process"].partition(".")[0] for row in rows}),
        "task_state_counts": _counted(rows, "state"),
        "ref_type_counts": _counted(rows, "reference_type"),
    }
    return _cluster({ALL_OBJECTS: group} if rows else {}, "callsite", **totals, callsite_enabled=False)


def by_owner(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Objects per owner: how many, in which states, how many bytes."""
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["reference_type"] == "OWNED":
            group = groups.setdefault(row["owner"], {"owner": row["owner"], "state_counts": {}, "bytes": 0})
            _count(group, row["state"])
            group["bytes"] += row["object_size"]
    return list(groups.values())


def _count(group: Mapping[str, Any], state: str) -> None:
    counts = group["state_counts"]
    counts[state] = counts.get(state, 0) + 1


def _counted(rows: Iterable[Row], field: str) -> dict[str, int]:
    return dict(Counter(row[field] for row in rows))


def _cluster(groups: Mapping[str, Any], by: str, **totals: Any) -> dict[str, Any]:
    return {"cluster": {"summary": dict(groups), **totals, "summary_by": by}}


__all__ = ["by_owner", "of_actors", "of_objects", "of_tasks"]
