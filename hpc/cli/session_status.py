"""`hpc status` of a session that runs: its nodes and what they have, what waits and why, its drivers, its time.

One question goes to the head and one to each raylet and process, like the other commands that look into a session. It
costs what it is asked for, and a process that did not answer is named.
"""

from __future__ import annotations

import os
from typing import Any

from hpc.cli.table import show_table
from hpc.core.ids import raylet_of
from hpc.settings.durations import short

Row = dict[str, Any]

#: Resources that are bytes, or stand for one node only: they are not among those that people count.
BYTES = ("memory", "object_store_memory")
#: Lines of each kind that are printed; --json has all.
SHOWN = 20
#: How long a node or a process may take to answer.
TIMEOUT_S = 3.0


def gathered() -> Row:
    """All that is known of the session, as plain data."""
    from hpc.state import gather
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
    drivers = [row for row in workers.rows if row["worker_type"] == "DRIVER" and row["pid"] != os.getpid()]
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
        "silent": sorted(silent),
    }


def _session_id() -> str:
    import hpc

    return hpc.get_runtime_context().get_job_id()


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


# ---------------------------------------------------------------- for people


def show(found: Row) -> None:
    """Print it."""
    where = f", {found['scheduler']} job {found['job_id']}" if found["scheduler"] else ""
    left = f", {short(found['time_left_s'])} left" if found["time_left_s"] is not None else ""
    print(f"session {found['session']}{where}{left}")
    alive = [node for node in found["nodes"] if node["state"] == "ALIVE"]
    dead = [node for node in found["nodes"] if node["state"] != "ALIVE"]
    print(f"nodes       {len(alive)} alive" + (f", {len(dead)} dead" if dead else ""))
    _show_growth(found["growth"])
    _show_nodes([(node, _node_line(node)) for node in _first(alive, "nodes")])
    _show_nodes([(node, f"dead: {node['state_message']}") for node in _first(dead, "dead nodes")])
    print("resources")
    for name, kind in found["resources"].items():
        shown = _bytes if name in BYTES else _number
        print(f"  {name:<22} {shown(kind['used'])} of {shown(kind['total'])} used")
    used = sum(node["store_used_bytes"] for node in alive)
    capacity = sum(node["store_capacity_bytes"] for node in alive)
    spilled = sum(node["store_spilled_bytes"] for node in alive)
    print(f"  {'object store':<22} {_bytes(used)} of {_bytes(capacity)} used, {_bytes(spilled)} spilled to disk so far")
    _show_waiting(found)
    listed = ", ".join(f"{row['worker_id']} (pid {row['pid']})" for row in found["drivers"][:SHOWN]) or "none"
    print(f"drivers     {listed}")
    if found["failed_workers"]:
        print(f"failed      {found['failed_workers']} workers ended unexpectedly: hpc logs --failed")
    if found["silent"]:
        print(f"silent      no answer in time from {', '.join(found['silent'][:SHOWN])}")


def _show_growth(growth: Row | None) -> None:
    """Of a session that may grow: how far, what is asked for and why."""
    if growth is None:
        return
    asked = growth["asked"]
    nodes = sum(each["nodes"] for each in asked)
    what = f"{nodes} more asked for" if asked else "no more asked for"
    why = f": {growth['why']}" if growth["why"] else ""
    print(f"grows       {growth['least']} to {growth['most']} nodes, {what}{why}")
    for each in _first(asked, "jobs"):
        print(f"  {each['nodes']} node{'' if each['nodes'] == 1 else 's'}: {each['state']}")
    if growth["refusal"]:
        print(f"  none came lately: {growth['refusal']}")


def _show_nodes(nodes: list[tuple[Row, str]]) -> None:
    rows = [(node["node_id"], node["node_name"], line) for node, line in nodes]
    show_table(rows, indent="  ", gap=" ", least=(5, 16))


def _show_waiting(found: Row) -> None:
    tasks = sum(row["tasks"] for row in found["demand"])
    actors = sum(row["actors"] for row in found["demand"])
    counts = [f"{tasks} tasks"] * bool(tasks) + [f"{actors} actors"] * bool(actors)
    print(f"waiting     {' and '.join(counts) or 'nothing'}")
    for row in _first(found["demand"], "kinds"):
        wants = ", ".join(f"{name}: {amount:g}" for name, amount in row["required_resources"].items()) or "nothing"
        what = [f"{row[kind]} {kind}" for kind in ("tasks", "actors") if row[kind]]
        spread = "" if row["strategy"] == "DEFAULT" else f", {row['strategy']}"
        print(f"  {{{wants}{spread}}} {' and '.join(what)} ({', '.join(row['names'])}): {row['why']}")
    for row in _first(found["placement_groups"], "placement groups"):
        name = f" {row['name']}" if row["name"] else ""
        many = f"{row['missing']} of {len(row['bundles'])} bundles"
        how = ", ".join([row["strategy"], *(f"{key} {each}" for key, each in row["topology_strategy"].items())])
        print(f"  placement group{name} {row['placement_group_id'][:12]} ({how}, {many}): {row['why']}")


def _first(rows: list[Row], what: str) -> list[Row]:
    if len(rows) > SHOWN:
        print(f"  (the first {SHOWN} of {len(rows)} {what}; --json has all)")
    return rows[:SHOWN]


def _node_line(node: Row) -> str:
    total, free = node["resources_total"], node["resources_available"]
    kinds = [name for name in total if name not in BYTES and not name.startswith(("node:", "accelerator_type:"))]
    parts = [f"{name} {_number(total[name] - free.get(name, 0.0))}/{_number(total[name])}" for name in sorted(kinds)]
    parts.append(f"memory {_bytes(node['memory_used_bytes'])}/{_bytes(node['memory_limit_bytes'])}")
    parts.append(f"store {_bytes(node['store_used_bytes'])}/{_bytes(node['store_capacity_bytes'])}")
    suspect = ["silent for a while"] if node["is_suspect"] else []
    return "  ".join([*parts, f"{node['workers']} workers", *suspect])


def _number(value: float) -> str:
    return f"{value:g}"


def _bytes(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value / 1e3:.0f} kB" if value else "0"
