"""When nodes end: what the launcher has learned of its scheduler, told on to the nodes.

Pure. Only seconds that remain travel between machines, so that no two machines' clocks are compared: each place counts
them down by its own clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpc.core.wire import NodeTime


class Endings:
    """The end of the session, and of those nodes that end before it. Times are the head's own, in seconds."""

    def __init__(self) -> None:
        self.session: float | None = None
        self.nodes: dict[int, float] = {}

    def at(self, node: int) -> float | None:
        """When a node ends; None where nothing limits it."""
        own = self.nodes.get(node)
        if own is None or self.session is None:
            return self.session if own is None else own
        return min(own, self.session)

    def learn(self, ends_at: float | None, nodes: Iterable[int] | None = None) -> None:
        """The limit is this one now, of the session or of some of its nodes."""
        if nodes is None:
            self.session = ends_at
            return
        for node in nodes:
            if ends_at is None:
                self.nodes.pop(node, None)
            else:
                self.nodes[node] = ends_at

    def forget(self, node: int) -> None:
        """The node is gone."""
        self.nodes.pop(node, None)

    def message(self, node: int, now: float) -> NodeTime:
        """What the node is to know."""
        ends_at = self.at(node)
        return NodeTime(-1.0 if ends_at is None else max(0.0, ends_at - now))
