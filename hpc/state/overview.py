"""A session as a whole: its nodes and what they have, what waits and why, its drivers, its time.

One question goes to the head and one to each raylet and process. It costs what it is asked for, and a process that did
not answer is named. `hpc status`, `hpc top` and the dashboard show these same rows.
"""

from __future__ import annotations

import os
from typing import Any

from hpc.api.connection import ensure_client
from hpc.core.ids import raylet_of
from hpc.state import gather

Row = dict[str, Any]

#: How long a node or a process may take to answer.
TIMEOUT_S = 3.0


def session_overview() -> Row:
    """All that is known of the session, as plain data."""
    from hpc.util import state

    nodes = state.list_nodes(limit=gather.LIMIT)
    raylets = [raylet_of(row["node"]) for row in gather.node_rows() if row["alive"]]
    stores = gather.ask(raylets, "store", 1, TIMEOUT_S)
    raylets = [one for one in raylets if str(one) not in stores.silent]  # they are not waited for again
    usages, workers, ended, setups = (
        gather.ask(raylets, what, gather.LIMIT, TIMEOUT_S) for what in ("usage", "workers", "ended", "setups")
    )
    there = [gather.address(row["worker_id"]) for row in workers.rows if row["state"] != "STARTING"]
    demand = gather.ask(there, "demand", gather.LIMIT, TIMEOUT_S)
    store = {row["node_id"]: row for row in stores.rows if not row["object_id"]}
    usage = {row["answered_by"].partition(".")[0]: row for row in usages.rows}
    silent = {one for found in (stores, usages, workers, ended, demand) for one in found.silent}
    groups = [g for g in state.list_placement_groups(limit=gather.LIMIT) if g["state"] not in ("CREATED", "REMOVED")]
    drivers = [row for row in workers.rows if row["worker_type"] == "DRIVER" and not row["is_guest"]]
    drivers = [row for row in drivers if row["pid"] != os.getpid()]
    facts = gather.session_facts()
    return {
        "session": _session_id(),
        "scheduler": facts.get("scheduler"),
        "job_id": facts.get("job_id"),
        "time_left_s": facts["time_left_s"],
        "growth": facts.get("growth"),
        "nodes": [_node(row, store.get(row["node_id"], {}), usage.get(row["node_id"], {})) for row in nodes],
        "resources": _totals(nodes),
        "demand": _by_shape(gather.explain_setups(demand.rows, setups.rows)),
        "placement_groups": [_group(row) for row in groups],
        "drivers": [{"worker_id": row["worker_id"], "pid": row["pid"], "node_id": row["node_id"]} for row in drivers],
        "failed_workers": sum(1 for row in ended.rows if row["failed"]),
        "workers": _busy(workers.rows),
        "silent": sorted(silent),
    }


def _session_id() -> str:
    return ensure_client().registered.session


def own_directory() -> str:
    """The directory of this machine's node, where sockets of the session are; only its user can enter it."""
    return ensure_client().node_dir


def _busy(workers: list[Row]) -> dict[str, int]:
    """How many workers there are, by what they do."""
    found = {"workers": 0, "actors": 0, "tasks": 0, "idle": 0, "starting": 0}
    for row in workers:
        if row["worker_type"] == "DRIVER":
            continue
        found["workers"] += 1
        starts = row["state"] == "STARTING"
        found["starting" if starts else "actors" if row["is_actor"] else "tasks" if row["leased_by"] else "idle"] += 1
    return found


def _node(row: Row, store: Row, usage: Row) -> Row:
    names = ("node_id", "node_name", "state", "state_message", "is_suspect", "workers", "waiting")
    found = {name: row[name] for name in (*names, "resources_total", "resources_available")}
    found |= {f"store_{name}": store.get(name, 0) for name in ("used_bytes", "capacity_bytes", "spilled_bytes")}
    return found | {"memory_used_bytes": usage.get("used_bytes", 0), "memory_limit_bytes": usage.get("limit_bytes", 0)}


def _totals(nodes: list[Any]) -> dict[str, dict[str, float]]:
    """Used and total per kind, over the nodes that live."""
    found: dict[str, dict[str, float]] = {}
    for row in nodes:
        if row["state"] != "ALIVE":
            continue
        for name, total in row["resources_total"].items():
            if name.startswith("node:") or name == "object_store_memory":
                continue
            kind = found.setdefault(name, {"used": 0.0, "total": 0.0})
            kind["total"] += total
            kind["used"] += total - row["resources_available"].get(name, 0.0)
    return dict(sorted(found.items()))


def _by_shape(rows: list[Row]) -> list[Row]:
    """What waits, by what it wants: how many, in how many processes, and why (of the largest part)."""
    shapes: dict[tuple[Any, ...], Row] = {}
    for row in sorted(rows, key=lambda row: -row["tasks"] - row["actors"]):
        wants = {name: amount for name, amount in row["required_resources"].items() if amount}
        key = (tuple(sorted(wants.items())), row["strategy"], row["is_infeasible"])
        new = {
            "required_resources": wants, "strategy": row["strategy"], "is_infeasible": row["is_infeasible"],
            "tasks": 0, "actors": 0, "owners": 0, "names": [], "why": row["why"],
        }  # fmt: skip
        shape = shapes.setdefault(key, new)
        for name in ("tasks", "actors"):
            shape[name] += row[name]
        shape["owners"] += 1
        shape["names"] = list(dict.fromkeys([*shape["names"], *row["names"]]))[:3]
    return list(shapes.values())


def _group(row: Row) -> Row:
    missing = sum(1 for node in row["nodes"] if not node) or len(row["bundles"])
    return {
        "placement_group_id": row["placement_group_id"], "name": row["name"], "state": row["state"],
        "strategy": row["strategy"], "topology_strategy": row["topology_strategy"], "bundles": row["bundles"],
        "missing": missing,
        "why": row.get("why") or "it waits until its bundles are free at the same time",
    }  # fmt: skip
