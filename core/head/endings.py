"""When nodes end, and which of them drain: what the launcher has learned of its scheduler, told on to the nodes.

Pure. Only seconds that remain travel between machines, so that no two machines' clocks are compared: each place counts
them down by its own clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpc.core.events.kinds import EventKind
from hpc.core.head.nodes import Node
from hpc.core.wire import NodeTime

#: Before the end of the session this is said, in seconds.
WARN_S = (3600.0, 600.0, 60.0)
#: A limit that differs by less is the same one.
SAME_S = 5.0


class Endings:
    """The end of the session, and of those nodes that end before it. Times are the head's own, in seconds."""

    def __init__(self) -> None:
        self.session: float | None = None
        self.nodes: dict[int, float] = {}
        #: Why the session drains, and why some of its nodes do.
        self.why = ""
        self.whys: dict[int, str] = {}
        #: What happened and was not taken by `news` yet; the limit that was told of last, and the warnings to come.
        self._news: list[tuple[EventKind, str, int]] = []
        self._told: float | None = None
        self._to_warn: list[float] = []
        #: A head before us has told of the limit.
        self.said = False

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

    def drain(self, why: str, nodes: Iterable[int] | None = None, *, taken: bool = False) -> None:
        """The session, or some of its nodes, take nothing new from now on. The first reason stays. ``taken``: they are
        for another job."""
        if nodes is None:
            if not self.why:
                self._news.append(("NODES_TAKEN" if taken else "SESSION_DRAINS", f"the session drains: {why}", 0))
            self.why = self.why or why
        else:
            for node in nodes:
                if node not in self.whys:
                    self._news.append(("NODE_DRAINS", f"node {node} drains: {why}", node))
                self.whys.setdefault(node, why)

    def news(self, now: float) -> list[tuple[EventKind, str, int]]:
        """What has happened since this was asked last: kind, words, node (0: none)."""
        news, self._news = self._news, []
        ends_at, told = self.session, self._told
        if ends_at is not None and (told is None or abs(ends_at - told) > SAME_S):
            self._told, left_s = ends_at, max(0.0, ends_at - now)
            self._to_warn = [before_s for before_s in WARN_S if before_s < left_s]
            if not self.said:
                news.insert(0, ("TIME_SET", f"the scheduler ends the session in {_span(left_s)}", 0))
            self.said = False
        elif ends_at is None and told is not None:
            self._told = None
            news.insert(0, ("TIME_SET", "nothing limits the session's time any more", 0))
        while ends_at is not None and self._to_warn and ends_at - now <= self._to_warn[0]:
            before_s = self._to_warn.pop(0)
            if ends_at - now > before_s / 2:  # one that is long past is not said
                news.append(("TIME_SHORT", f"{_span(ends_at - now)} are left until the session ends", 0))
        return news

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


def _span(seconds: float) -> str:
    """A time for people: hours and minutes, or seconds."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
