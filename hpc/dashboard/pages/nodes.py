"""Nodes and GPUs: a cell for each node, and all that is known of one. No I/O but in what a page is asked for beside."""

from __future__ import annotations

from typing import Any

from hpc.dashboard.pages.face import Answers, Page
from hpc.dashboard.views import Params, listing

COLUMNS = (
    "node_id", "node_name", "state", "cpu", "cpus", "gpu", "gpus", "memory_used_bytes", "memory_limit_bytes",
    "store_used_bytes", "store_capacity_bytes", "store_spilled_bytes", "workers", "waiting", "state_message",
)  # fmt: skip
#: Kinds of use that cells can show, and the most cells of a page.
HEATS = ("cpu", "gpu", "memory", "store")
MOST_CELLS = 10_000


def view(answers: Answers, params: Params) -> dict[str, Any]:
    """The nodes as cells of one kind of use, and as rows."""
    rows = [_row(node) for node in answers["overview"]["nodes"]]
    heat = params.text("heat", "cpu")
    heat = heat if heat in HEATS else "cpu"
    return {
        **listing(rows, COLUMNS, params),
        "heat": heat,
        "heats": [kind for kind in HEATS if kind != "gpu" or any(row["gpus"] for row in rows)],
        "cells": [[row["node_id"], _percent(row, heat)] for row in rows[:MOST_CELLS]],
    }


def _row(node: dict[str, Any]) -> dict[str, Any]:
    total, free = node["resources_total"], node["resources_available"]
    row = {name: node[name] for name in COLUMNS if name in node}
    for kind, resource in (("cpu", "CPU"), ("gpu", "GPU")):
        row[f"{kind}s"] = total.get(resource, 0.0)
        row[kind] = row[f"{kind}s"] - free.get(resource, 0.0)
    for names in (("memory_used_bytes", "memory_limit_bytes"), ("store_used_bytes", "store_capacity_bytes")):
        if not row[names[1]]:  # nobody has told: that is not 0
            row |= dict.fromkeys(names)
    if node["is_suspect"]:
        row["state"] = "SILENT"
    return row


def _percent(row: dict[str, Any], heat: str) -> int:
    """A node's use from 0 to 100; -1 where it is dead, -2 where it does not answer. -3: it has none of that, or has not
    told it."""
    if row["state"] != "ALIVE":
        return -2 if row["state"] == "SILENT" else -1
    fields = {
        "cpu": ("cpu", "cpus"), "gpu": ("gpu", "gpus"), "memory": ("memory_used_bytes", "memory_limit_bytes"),
        "store": ("store_used_bytes", "store_capacity_bytes"),
    }  # fmt: skip
    used, most = (row[name] for name in fields[heat])
    return round(100 * min(1.0, used / most)) if most else -3


def one(params: Params) -> dict[str, Any]:
    """All that is known of one node: its workers, and its log files."""
    from hpc.state import worker_logs
    from hpc.util import state

    node = params.text("id")
    workers = state.list_workers([("node_id", "=", node)], 500)
    return {
        "node": state.get_node(node),
        "workers": workers,
        "files": worker_logs.files(int(node))[:500] if node.isdigit() else [],
    }


PAGE = Page("nodes", "Nodes", "2", ("overview",), view, {"one": one})
