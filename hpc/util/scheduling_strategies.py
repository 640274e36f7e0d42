"""Strategies that say where a task or an actor goes, beside the strings "DEFAULT" and "SPREAD"."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeAffinitySchedulingStrategy:
    """On the node with this id (``get_runtime_context().get_node_id()``, or ``NodeID`` of ``hpc.nodes()``).

    With ``soft`` another node is taken when that one has no room; otherwise the task waits for it.
    """

    node_id: str | int
    soft: bool = False

    def __post_init__(self) -> None:
        try:
            int(self.node_id)
        except (TypeError, ValueError):
            raise ValueError(f"node_id must be the id of a node, like {'1'!r}; not {self.node_id!r}") from None
