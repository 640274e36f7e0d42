"""Nodes of a run that are taken away: which ranks are on them, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PreemptionInfo:
    """Nodes with ranks that are about to be taken away.

    deadline_ms: when the first of them goes, in milliseconds of UNIX time; None where that is not known.
    preempted_node_to_ranks: the ranks on each of them, by the node's id.
    """

    deadline_ms: int | None
    preempted_node_to_ranks: dict[str, list[int]]

    @property
    def preempted_node_ids(self) -> list[str]:
        """The ids of these nodes, sorted."""
        return sorted(self.preempted_node_to_ranks)

    @property
    def preempted_ranks(self) -> list[int]:
        """The ranks on them, sorted."""
        return sorted({rank for ranks in self.preempted_node_to_ranks.values() for rank in ranks})

    def and_also(self, other: PreemptionInfo | None) -> PreemptionInfo:
        """Both of them as one."""
        if other is None:
            return self
        both = (self, other)
        deadlines = [info.deadline_ms for info in both if info.deadline_ms is not None]
        nodes = sorted({node for info in both for node in info.preempted_node_to_ranks})
        ranks: Mapping[str, set[int]] = {
            node: {rank for info in both for rank in info.preempted_node_to_ranks.get(node, ())} for node in nodes
        }
        return PreemptionInfo(min(deadlines, default=None), {node: sorted(ranks[node]) for node in nodes})
