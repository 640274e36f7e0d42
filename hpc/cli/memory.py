"""`hpc memory`: what is in the nodes' object stores, and who keeps it."""

from __future__ import annotations

import json
from typing import Any

from hpc.cli.look import LIMIT, look, show_rows
from hpc.cli.words import ADDRESS, JSON

USAGE = "hpc memory [options]     what is in the nodes' object stores, and who keeps it"
TABLE = (ADDRESS, LIMIT, JSON)


def run(words: list[str]) -> int:
    """Print it; returns the exit code."""
    return look(words, TABLE, _memory)


def _memory(given: dict[str, Any], rest: list[str]) -> int:
    from hpc.state import gather

    rows = gather.from_raylets("store", given.get("limit") or 20).warn("memory")
    if given.get("json"):
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        if not row["object_id"]:
            used, capacity = row["used_bytes"] / 1e6, row["capacity_bytes"] / 1e6
            print(f"node {row['node_id']}: {used:,.1f} of {capacity:,.1f} MB used, {row['objects']} objects")
    show_rows(
        [row for row in rows if row["object_id"]],
        ("object_id", "object_size", "node_id", "owner", "copy", "pinned_by"),
    )
    return 0
