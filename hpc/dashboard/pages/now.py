"""Now: what runs, what waits and why, what is used and what is left. No I/O."""

from __future__ import annotations

from typing import Any

from hpc.dashboard.history import History
from hpc.dashboard.pages.face import Answers, Page
from hpc.dashboard.views import Params, short, tasks_by_name, used_shares

#: Lines of the charts.
LINES = ("CPU", "GPU", "memory", "store", "waiting", "workers_tasks", "workers_actors", "workers_idle")
#: Kinds of what waits, and placement groups, that are shown.
SHOWN = 30


def view(answers: Answers, params: Params, history: History) -> dict[str, Any]:
    """The session in one screen."""
    found = answers["overview"]
    tasks = answers.get("tasks") or []
    return {
        "nodes": {
            "alive": sum(node["state"] == "ALIVE" for node in found["nodes"]),
            "dead": sum(node["state"] != "ALIVE" for node in found["nodes"]),
            "suspect": sum(bool(node["is_suspect"]) for node in found["nodes"]),
        },
        "resources": {name: kind for name, kind in found["resources"].items() if name != "memory"},
        "shares": used_shares(found),
        "bytes": _bytes(found["nodes"]),
        "workers": found["workers"],
        "failed_workers": found["failed_workers"],
        "growth": found["growth"],
        "tasks": tasks_by_name(tasks),
        "waiting": [_waiting(row) for row in found["demand"][:SHOWN]],
        "waiting_kinds": len(found["demand"]),
        "groups": [{**group, "why": short(group["why"])} for group in found["placement_groups"][:SHOWN]],
        "points": history.since(params.number("since", 0.0, 1e12), LINES),
    }


def _bytes(nodes: list[dict[str, Any]]) -> dict[str, int]:
    """Bytes of memory and of object stores, over the nodes that live."""
    names = (
        "memory_used_bytes",
        "memory_limit_bytes",
        "store_used_bytes",
        "store_capacity_bytes",
        "store_spilled_bytes",
    )
    return {name: sum(node[name] for node in nodes if node["state"] == "ALIVE") for name in names}


def _waiting(row: dict[str, Any]) -> dict[str, Any]:
    names = ("required_resources", "strategy", "is_infeasible", "tasks", "actors", "names")
    return {name: row[name] for name in names} | {"why": short(row["why"])}


PAGE = Page("now", "Now", "1", ("overview", "tasks"), view)
