"""Now: what runs, what waits and why, what is used and what is left. No I/O."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from hpc.dashboard.pages.face import Answers, Page
from hpc.dashboard.views import Params, short
from hpc.state.named import by_name

#: Kinds of what waits, and placement groups, that are shown.
SHOWN = 30


def view(answers: Answers, params: Params) -> dict[str, Any]:
    """The session in one screen. ``span`` "all": its course from the begin on."""
    found, counted = answers["overview"], answers.get("metrics")
    points, spent = answers.get("whole") or ({"times": []}, None)
    if params.text("span") != "all":
        points = answers.get("course") or {"times": []}
    return {
        "nodes": {
            "alive": sum(node["state"] == "ALIVE" for node in found["nodes"]),
            "dead": sum(node["state"] != "ALIVE" for node in found["nodes"]),
            "suspect": sum(bool(node["is_suspect"]) for node in found["nodes"]),
        },
        "resources": {name: kind for name, kind in found["resources"].items() if name != "memory"},
        "bytes": _bytes(found["nodes"]),
        "workers": found["workers"],
        "failed_workers": found["failed_workers"],
        "growth": found["growth"],
        "tasks": by_name(answers.get("open") or [], counted.rows if counted is not None else []),
        "counted": counted is not None and math.isfinite(counted.age_s),
        "spent": None if spent is None else msgspec.to_builtins(spent),
        "waiting": [_waiting(row) for row in found["demand"][:SHOWN]],
        "waiting_kinds": len(found["demand"]),
        "groups": [{**group, "why": short(group["why"])} for group in found["placement_groups"][:SHOWN]],
        "course": points,
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


PAGE = Page("now", "Now", "1", ("overview", "open", "course", "metrics", "whole"), view)
