"""What the head says upward, to whoever can get more nodes or give some back; and the nodes that are to be vacated.

Pure. A report is whole. It has what waits and finds no room, by what it wants, and the placement groups that are not
placed. It has each node with how much it is in use, and since when. It says numbers and no changes, so that one that
is lost does no harm, and its size has a limit. Nobody makes one until it was asked for, and then once in a while.

Which nodes are to be vacated is told as the list of all of them. Whatever a raylet says of itself is compared with that
list, so heads and raylets may be replaced at any moment.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hpc.core.head.admission import NONSENSE
from hpc.core.head.demands import Demands, Kind
from hpc.core.head.groups import Groups
from hpc.core.head.nodes import Node
from hpc.core.ids import Address
from hpc.core.policy.labels import HOST, NODE_ID, PREFIXES, matches
from hpc.core.resources import Amounts
from hpc.core.wire import Heartbeat, Message, Vacate

#: A report that has not changed is said again after this time.
REPEAT_S = 10.0
#: The most of each kind that one report has; what is beyond is counted in ``more``.
MAX_SHAPES, MAX_GROUPS, MAX_KINDS, MAX_ROOMS, MAX_NODES = 64, 32, 64, 64, 2000
#: A shape has so many resources at most, with names of so many letters.
MAX_NAMES, MAX_LETTERS = 16, 60
#: Labels that one node alone has: another one that joins has not got them.
OWN_LABELS = frozenset(f"{prefix}{label.partition('/')[2]}" for label in (NODE_ID, HOST) for prefix in PREFIXES)

Shape = tuple[tuple[tuple[str, int], ...], float, bool]


class Upward:
    """What is waited for, as a whole; and which nodes take nothing new because they are to be given back."""

    def __init__(
        self,
        nodes: dict[int, Node],
        demands: Demands,
        groups: Groups,
        stale: dict[int, None],
        outbox: list[tuple[Address, Message]],
    ) -> None:
        self._nodes, self._demands, self._groups = nodes, demands, groups
        self._stale, self._outbox = stale, outbox
        self._leaving: set[int] = set()
        self._said: Any = None
        self._said_at = float("-inf")

    # -------------------------------------------------------------- nodes that are to be vacated

    def vacate(self, numbers: Collection[int]) -> None:
        """These are all nodes that are to be vacated; one that was and is not among them is used again."""
        self._leaving = {int(number) for number in numbers}
        for node in self._nodes.values():
            if node.leaving != (node.info.node in self._leaving):
                self._look_at(node)

    def joined(self, node: Node, now: float) -> None:
        """A node has registered. What it does it will say."""
        node.since = now
        node.leaving = node.info.node in self._leaving

    def heard(self, node: Node, beat: Heartbeat, now: float) -> None:
        """A raylet has said how much its node is in use."""
        if beat.vacancy != node.vacancy:
            node.vacancy, node.since = beat.vacancy, now
        node.keeps = beat.keeps
        vacated = beat.vacancy in ("leaving", "empty")
        if node.leaving != (node.info.node in self._leaving) or vacated != node.leaving:
            self._look_at(node)

    def _look_at(self, node: Node) -> None:
        node.leaving = node.info.node in self._leaving
        self._stale[node.info.node] = None
        if not node.leaving or node.vacancy == "idle":
            self._outbox.append((node.addr, Vacate(node.leaving)))

    # -------------------------------------------------------------- the report

    def report(self, now: float) -> dict[str, Any] | None:
        """What is to be said; None where the same was said a moment ago."""
        self._demands.now = now
        kinds: dict[str, int] = {}
        listed: list[Amounts] = []
        nodes: list[list[Any]] = []
        more = 0
        for node in self._nodes.values():
            if node.info.gateway:
                continue
            if len(nodes) == MAX_NODES:
                more += 1
                continue
            name = repr(sorted(node.info.totals.items()))
            if name not in kinds and len(listed) < MAX_KINDS:
                kinds[name] = len(listed)
                listed.append(_shortened(node.info.totals))
            state = "draining" if node.draining else "silent" if node.suspect else node.vacancy
            nodes.append([node.info.node, state, node.since, kinds.get(name, -1), node.keeps])
        shapes, beyond = self._shapes()
        groups = [
            [group.strategy, _counted([group.bundles[i] for i in group.missing])] for group in self._groups.unplaced
        ]
        room = _counted([n.free for n in self._nodes.values() if n.takes_work], MAX_ROOMS) if groups else []
        more += beyond + max(0, len(groups) - MAX_GROUPS)
        said = [nodes, listed, shapes, groups[:MAX_GROUPS], room, more]
        if said == self._said and now - self._said_at < REPEAT_S:
            return None
        self._said, self._said_at = said, now
        aged = [[number, state, round(now - since, 3), kind, keeps] for number, state, since, kind, keeps in nodes]
        return {
            "nodes": aged, "kinds": listed, "shapes": shapes, "groups": groups[:MAX_GROUPS], "room": room, "more": more,
        }  # fmt: skip

    def _shapes(self) -> tuple[list[list[Any]], int]:
        """What waits, as rows, and how much of it is beyond the limit. A row has amounts, how many want these, how many
        seconds the node has to last, and whether another node could serve it."""
        counts: dict[Shape, int] = {}
        beyond = 0
        for kind, count in self._demands.waiting():
            if kind.in_group:
                continue  # it waits for what is in bundles that are reserved, or for a group, which is listed
            wanted = {name: units for name, units in kind.wanted.items() if units}
            if not _is_short(wanted):
                beyond += count
                continue
            shape = tuple(sorted(wanted.items())), float(kind.time_s), self._is_for_others(kind)
            counts[shape] = counts.get(shape, 0) + count
        rows = sorted(((count, shape) for shape, count in counts.items() if count > 0), reverse=True)
        beyond += sum(count for count, _ in rows[MAX_SHAPES:])
        return [[dict(amounts), n, time_s, other] for n, (amounts, time_s, other) in rows[:MAX_SHAPES]], beyond

    def _is_for_others(self, kind: Kind) -> bool:
        """Whether a node that joins could serve it, if it has enough."""
        try:
            return self._asks_for_any(kind.strategy)
        except NONSENSE:
            return False

    def _asks_for_any(self, strategy: Any) -> bool:
        if strategy[0] == "node":
            return bool(strategy[2])
        if strategy[0] != "where":
            return True
        labels = [
            {key: value for key, value in node.info.labels.items() if key not in OWN_LABELS}
            for node in self._nodes.values()
        ]
        alike = any(matches(each, selector) for each in labels for selector in strategy[2])
        return alike and self._asks_for_any(strategy[1])


def _is_short(amounts: Amounts) -> bool:
    return len(amounts) <= MAX_NAMES and all(len(name) <= MAX_LETTERS for name in amounts)


def _shortened(amounts: Amounts) -> Amounts:
    """As many as a shape may ask for; those that people count come first in a node's table."""
    return {name: units for name, units in list(amounts.items())[:MAX_NAMES] if len(name) <= MAX_LETTERS}


def _counted(all_amounts: list[Amounts], most: int = MAX_SHAPES) -> list[list[Any]]:
    """Equal ones together: [amounts, how many]."""
    counts: dict[tuple[tuple[str, int], ...], int] = {}
    for amounts in all_amounts:
        kept = tuple(sorted((name, units) for name, units in _shortened(amounts).items() if units))
        counts[kept] = counts.get(kept, 0) + 1
    return [[dict(kept), count] for kept, count in list(counts.items())[:most]]
