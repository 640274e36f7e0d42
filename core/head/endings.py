"""When nodes end, and which of them drain: what the launcher has learned of its scheduler, told on to the nodes.

Pure. Only seconds that remain travel between machines, so that no two machines' clocks are compared: each place counts
them down by its own clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpc.core.head.nodes import Node
from hpc.core.wire import NodeTime


class Endings:
    """The end of the session, and of those nodes that end before it. Times are the head's own, in seconds."""

    def __init__(self) -> None:
        self.session: float | None = None
        self.nodes: dict[int, float] = {}
        #: Why the session drains, and why some of its nodes do.
        self.why = ""
        self.whys: dict[int, str] = {}

    def at(self, node: int) -> float | None:
        """When a node ends; None where nothing limits it."""
        own = self.nodes.get(node)
        if own is None or self.session is None:
            return self.session if own is None else own
        return min(own, self.session)

    def draining(self, node: int) -> str:
        """Why a node drains; empty if it does not."""
        return self.whys.get(node, "") or self.why

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

    def drain(self, why: str, nodes: Iterable[int] | None = None) -> None:
        """The session, or some of its nodes, take nothing new from now on. The first reason stays."""
        if nodes is None:
            self.why = self.why or why
        else:
            for node in nodes:
                self.whys.setdefault(node, why)

    def forget(self, node: int) -> None:
        """The node is gone."""
        self.nodes.pop(node, None)
        self.whys.pop(node, None)

    def message(self, node: int, now: float) -> NodeTime:
        """What the node is to know."""
        ends_at = self.at(node)
        left_s = -1.0 if ends_at is None else max(0.0, ends_at - now)
        return NodeTime(left_s, self.draining(node), alone=node in self.whys and not self.why)

    def too_short(self, nodes: Iterable[int], time_s: float, now: float) -> tuple[set[int], str]:
        """The nodes that end too soon for what takes so long; and in words how long they last at most."""
        left = {node: ends_at - now for node in nodes if (ends_at := self.at(node)) is not None}
        short = {node for node, left_s in left.items() if left_s < time_s}
        most = max((max(0.0, left[node]) for node in short), default=0.0)
        return short, f"it asks for {time_s:g} s (time_request), and no node lasts longer than {most:.0f} s"

    @staticmethod
    def why_nothing(nodes: Iterable[Node]) -> str:
        """In words, where nodes drain: why what waits does not begin; empty where none does."""
        whys = {node.draining: None for node in nodes if node.draining}
        return f"nodes take nothing new before their end ({'; '.join(whys)})" if whys else ""
