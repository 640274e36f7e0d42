"""`hpc status` of a session that runs, for people: what `hpc.state.overview` has gathered, as lines."""

from __future__ import annotations

from typing import Any

from hpc.cli.table import show_table
from hpc.settings.durations import short

Row = dict[str, Any]

#: Resources that are bytes, or stand for one node only: they are not among those that people count.
BYTES = ("memory", "object_store_memory")
#: Lines of each kind that are printed; --json has all.
SHOWN = 20


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
