"""`hpc why ID`: why a task, an actor or an object waits."""

from __future__ import annotations

from typing import Any

from hpc.cli.look import KINDS, is_one, look, rows_of
from hpc.cli.words import ADDRESS
from hpc.settings.errors import CliError

#: Resources that `hpc why` does not show: they are large numbers of bytes.
HIDDEN = ("memory", "object_store_memory")

USAGE = "hpc why ID [options]     why a task, an actor or an object waits (its first or last digits will do)"
TABLE = (ADDRESS,)


def run(words: list[str]) -> int:
    """Print it; returns the exit code."""
    return look(words, TABLE, _why, is_one("id"))


def _why(given: dict[str, Any], rest: list[str]) -> int:
    wanted = rest[0].lower()
    found = 0
    for kind in ("tasks", "actors", "objects"):
        key = KINDS[kind][0]
        for row in rows_of(kind, {}, 10_000):
            if row[key].startswith(wanted) or row[key].endswith(wanted):
                found += 1
                why = row.get("why") or "nothing is in its way"
                placing = row["state"] in ("PENDING_NODE_ASSIGNMENT", "PENDING_CREATION")
                if placing and not row["in_setup"]:
                    why += f"; free now: {_free()}"
                print(f"{kind[:-1]} {row[key]} {row.get('name', '')} is {row['state']}: {why}")
    if not found:
        raise CliError("USAGE", f"nothing that is known has the id {wanted}", fix="hpc list tasks")
    return 0


def _free() -> str:
    """What the nodes have free, of what can be counted."""
    from hpc.util import state

    parts = []
    for node in state.list_nodes(filters=[("state", "=", "ALIVE")]):
        free = {k: v for k, v in node.resources_available.items() if k not in HIDDEN and not k.startswith("node:")}
        parts.append(
            f"node {node.node_id}: " + (", ".join(f"{k}: {v:g}" for k, v in sorted(free.items())) or "nothing")
        )
    return "; ".join(parts)
