"""Views of the cluster: nodes and resources."""

from __future__ import annotations

from typing import Any

import msgspec

from hpc.api.connection import ensure_client
from hpc.core.resources import UNIT
from hpc.core.wire import ClusterQuery


def _rows() -> list[dict[str, Any]]:
    answer = ensure_client().conversation.ask_head(lambda req: ClusterQuery(req, "nodes"))
    rows: list[dict[str, Any]] = msgspec.json.decode(answer.data)
    return rows


def nodes() -> list[dict[str, Any]]:
    """The nodes of the session, those that have died too, as dicts with Ray's keys. The gateway of a driver that runs
    outside the allocation is none of them."""
    return [
        {
            "NodeID": str(row["node"]),
            "Alive": row["alive"],
            "NodeManagerAddress": row["endpoint"].removeprefix("tcp://").rpartition(":")[0],
            "NodeManagerHostname": row["host"],
            "NodeManagerPort": int(row["endpoint"].rpartition(":")[2] or 0),
            "NodeName": row["host"],
            "RayletSocketName": f"{row['dir']}/raylet.sock",
            "Resources": {name: units / UNIT for name, units in row["totals"].items()},
            "Labels": row["labels"],
            "DeathReason": row["why"],
            "alive": row["alive"],
        }
        for row in _rows()
        if not row["gateway"]
    ]


def _sum(column: str) -> dict[str, float]:
    total: dict[str, int] = {}
    for row in _rows():
        if row["alive"]:
            for name, units in row[column].items():
                total[name] = total.get(name, 0) + units
    return {name: units / UNIT for name, units in sorted(total.items()) if units or column == "totals"}


def cluster_resources() -> dict[str, float]:
    """The resources of all living nodes together."""
    return _sum("totals")


def available_resources() -> dict[str, float]:
    """What is free of them, as the head knew it a moment ago. What it has promised to a task that has not begun yet, or
    has not been reported yet, is not free."""
    return _sum("spare")
