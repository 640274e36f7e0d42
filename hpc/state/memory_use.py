"""What memory the nodes have left for tasks: that of the job's cgroup, or of the machine."""

from __future__ import annotations

from typing import NamedTuple

from hpc.core.ids import raylet_of
from hpc.state.gather import ask, node_rows

#: Nodes that have not answered by then are left out.
ANSWER_S = 5.0


class MemoryUse(NamedTuple):
    """A node: bytes in use, and how many there may be. ``store_bytes``: of those in use, what is shared.
    ``store_most``: what the object store may take. ``nodes``: so many nodes of the session share the machine.

    Since the node began its store has spilled, restored from disk, and received from other nodes so many bytes."""

    node: int
    used_bytes: int
    limit_bytes: int
    store_bytes: int
    store_most: int
    nodes: int = 1
    spilled_bytes: int = 0
    restored_bytes: int = 0
    received_bytes: int = 0

    @property
    def left_bytes(self) -> int:
        """What one node's tasks may take yet, if the stores of the machine fill up; below 0 where they cannot."""
        stores = max(0, self.store_most * self.nodes - self.store_bytes)
        return (self.limit_bytes - self.used_bytes - stores) // self.nodes


def memory_use() -> list[MemoryUse]:
    """The living nodes that run tasks and actors, and have answered."""
    rows = [row for row in node_rows() if row["alive"] and not row["gateway"]]
    hosts = [row["host"] for row in rows]
    raylets = [raylet_of(row["node"]) for row in rows]
    used = {row["answered_by"]: row for row in ask(raylets, "usage", timeout_s=ANSWER_S).rows}
    stores = {row["answered_by"]: row for row in ask(raylets, "store_totals", timeout_s=ANSWER_S).rows}
    return [
        _use(row["node"], used[name], stores[name], hosts.count(row["host"]))
        for row, name in zip(rows, map(str, raylets))
        if name in used and name in stores
    ]


def _use(node: int, used: dict[str, int], store: dict[str, int], nodes: int) -> MemoryUse:
    return MemoryUse(
        node,
        used["used_bytes"],
        used["limit_bytes"],
        used["shared_bytes"],
        store["capacity_bytes"],
        nodes,
        *(store[f"{what}_bytes"] for what in ("spilled", "restored", "received")),
    )
