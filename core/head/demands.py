"""What raylets want and cannot serve themselves, and who is given a ticket for which node, oldest first.

Demands for the same amounts by the same strategy are of one kind: where one of them finds no room no other does. One
that waits is not looked at in each turn. It is looked at when it was said anew, when its patience ends, and when nodes
come or go. It is also looked at when some node has more free, enough for its kind, and when a bundle that it may use
has changed.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field

from hpc.core.causes import FinalCause
from hpc.core.head.admission import MAX_DEMAND, NONSENSE
from hpc.core.head.endings import Endings
from hpc.core.head.groups import Groups
from hpc.core.head.nodes import Node, Promises
from hpc.core.ids import Address, raylet_of
from hpc.core.pieces import less, times
from hpc.core.resources import fits, how_many, show
from hpc.core.wire import Message, NodeDemand, NodeInfo, Tickets

if TYPE_CHECKING:
    from hpc.core.head.columns import Columns
    from hpc.core.policy.placement import Snapshot

#: A demand that has found no room for so long goes to a full node, to wait there for its share.
PATIENCE_S = 0.2
#: Demands for bundles are looked at so often in any case: a group that nobody has heard of may be given up.
GROUPS_S = 0.25
#: A demand larger than what is served at a time goes on after so long.
NEXT_S = 0.01

#: One that waits at a full node comes back after this time at the latest, and is said again.
SENT_TO_WAIT_S = 2.0
MAX_SENT_TO_WAIT = 10_000

Key = tuple[int, int]
Grants = list[tuple[int, int, int]]


class Kind(Struct):
    """Demands that find room at the same places: by key, with their order of arrival."""

    wanted: dict[str, int]
    strategy: Any
    #: How long the node has to last.
    time_s: float = 0.0
    keys: dict[Key, int] = field(default_factory=dict)
    #: In the present turn: it is known that there is no room, and why there never will be.
    full: bool = False
    why: str = ""

    @property
    def in_group(self) -> bool:
        """Whether it is for bundles of a placement group."""
        return bool(self.strategy[0] == "pg")


class Demands:
    """All demands that wait, ``table``, and what they have had, ``sent``. Answers are left in ``outbox``."""

    def __init__(
        self,
        nodes: dict[int, Node],
        dead: dict[int, NodeInfo],
        groups: Groups,
        promises: Promises,
        endings: Endings,
        outbox: list[tuple[Address, Message]],
    ) -> None:
        self.nodes = nodes
        self.dead = dead
        self.groups = groups
        self.promises = promises
        self.endings = endings
        self.outbox = outbox
        self.now = 0.0
        self.table: dict[Key, NodeDemand] = {}
        self.sent: dict[Key, int] = {}
        #: How many were looked at: to see that it is few.
        self.looks = 0
        self._kinds: dict[bytes, Kind] = {}
        self._kind_of: dict[Key, bytes] = {}
        self._order = 0
        self._fresh: dict[Key, None] = {}
        self._again: dict[Key, None] = {}
        self._patient_at: dict[Key, float] = {}
        self._due: list[tuple[float, Key]] = []
        self._told_infeasible: set[Key] = set()
        self._all = False
        self._groups_at = 0.0
        self._spread_at = 0
        #: Demands that were sent to full nodes, and how long they may be waiting there.
        self._sent_to_wait: deque[tuple[float, Kind, int]] = deque(maxlen=MAX_SENT_TO_WAIT)

    # -------------------------------------------------------------- what comes and goes

    def on_demand(self, src: Address, msg: NodeDemand) -> None:
        """A raylet says what it wants."""
        key = (src.node, msg.shape)
        msg.count -= self.sent.get(key, 0) - msg.seen
        if msg.count <= 0:
            self.drop(key)
            return
        try:
            kind = msgspec.msgpack.encode((sorted(msg.placement.items()), msg.strategy, msg.time_s))
        except NONSENSE:
            self.drop(key)
            return
        old = self._kind_of.get(key)
        order = self._leave_kind(key) if old is not None and old != kind else None
        if old != kind:
            if order is None:
                self._order += 1
                order = self._order
            self._kinds.setdefault(kind, Kind(msg.placement, msg.strategy, msg.time_s)).keys[key] = order
            self._kind_of[key] = kind
        self.table[key] = msg
        self._fresh[key] = None

    def _leave_kind(self, key: Key) -> int | None:
        name = self._kind_of.pop(key, None)
        if name is None:
            return None
        kind = self._kinds[name]
        order = kind.keys.pop(key)
        if not kind.keys:
            del self._kinds[name]
        return order

    def drop(self, key: Key) -> None:
        """Nobody waits for this any more."""
        self.table.pop(key, None)
        self._leave_kind(key)
        self._fresh.pop(key, None)
        self._again.pop(key, None)
        self._patient_at.pop(key, None)
        self._told_infeasible.discard(key)

    def forget_node(self, number: int) -> None:
        """A node is gone, with what it wanted."""
        for key in [k for k in self.table if k[0] == number]:
            self.drop(key)
        for key in [k for k in self.sent if k[0] == number]:
            del self.sent[key]

    def waiting(self) -> list[tuple[Kind, int]]:
        """What has found no room, by kind, with what waits at full nodes for its share."""
        sent = self._sent_to_wait
        while sent and sent[0][0] <= self.now:
            sent.popleft()
        counts = [(kind, sum(self.table[key].count for key in kind.keys)) for kind in self._kinds.values()]
        return [*counts, *((kind, count) for _, kind, count in sent)]

    def nodes_changed(self) -> None:
        """Nodes have come or gone: all is looked at, and what can never be served is said once more."""
        self._told_infeasible.clear()
        self._all = True

    # -------------------------------------------------------------- serving

    def next_at(self, now: float) -> float:
        """When it has to be looked at what waits, if nothing else happens."""
        if self._again:
            return now + NEXT_S
        return min(self._due[0][0], now + 0.25) if self._due else now + 0.25

    def serve(self, columns: Columns) -> None:
        """Answer demands with tickets as far as there is room in the columns."""
        bundles, self.promises.bundles_changed = self.promises.bundles_changed, False
        if not self.table:
            self._due.clear()
            return
        single = {**self._fresh, **self._again}
        self._fresh.clear()
        self._again.clear()
        while self._due and self._due[0][0] <= self.now:
            when, key = heapq.heappop(self._due)
            if self._patient_at.get(key) == when:
                single[key] = None
        bundles = bundles or self.now >= self._groups_at
        if bundles:
            self._groups_at = self.now + GROUPS_S
        turns = [iter(sorted((self._kinds[self._kind_of[key]].keys[key], key) for key in single))]
        everything, self._all = columns.changed or self._all, False
        if everything or bundles or columns.grown:
            turns += [self._turn(kind, everything) for kind in self._concerned(columns, everything, bundles)]
        looked: list[Kind] = []
        done: set[Key] = set()
        for _, key in heapq.merge(*turns) if len(turns) > 1 else turns[0]:
            demand = self.table.get(key)
            if demand is None or key in done:
                continue
            done.add(key)
            kind = self._kinds[self._kind_of[key]]
            looked.append(kind)
            self.looks += 1
            try:
                self._serve_one(columns, key, demand, kind)
            except NONSENSE:
                # Not a demand that could ever be served; nobody else waits for it.
                self.drop(key)
        for kind in looked:
            kind.full, kind.why = False, ""

    def _concerned(self, columns: Columns, everything: bool, bundles: bool) -> list[Kind]:
        """Kinds that may find room where they have not before."""
        from hpc.core.policy.placement import has_room

        if everything:
            return list(self._kinds.values())
        rows, found = columns.grown_rows(), []
        for kind in self._kinds.values():
            try:
                concerned = bundles if kind.in_group else len(rows) and has_room(columns, rows, kind.wanted)
            except NONSENSE:
                concerned = True
            if concerned:
                found.append(kind)
        return found

    @staticmethod
    def _turn(kind: Kind, to_the_end: bool) -> Iterator[tuple[int, Key]]:
        """Its demands, until there is no more room for them."""
        for key, order in list(kind.keys.items()):
            if kind.full and not to_the_end:
                return
            yield order, key

    def _serve_one(self, columns: Columns, key: Key, demand: NodeDemand, kind: Kind) -> None:
        from hpc.core.policy.placement import place, why_infeasible

        final, why = self._never(demand)
        if final:
            self.drop(key)
            self.outbox.append((raylet_of(key[0]), Tickets(demand.shape, [], why, final)))
            return
        grants: Grants = []
        wanted = min(demand.count, MAX_DEMAND)
        lasting: Snapshot = columns
        if kind.time_s:
            lasting, why = self._lasting(columns, kind.time_s)
        if kind.in_group:
            grants = [] if why else self._tickets_in_group(demand)
        elif kind.full or why:
            kind.full, kind.why = True, why or kind.why
            why = kind.why
        else:
            for number, count in place(lasting, demand.placement, wanted, demand.strategy, self._spread_at):
                amounts = {name: units * count for name, units in demand.placement.items()}
                grants.append((number, count, self.promises.new(number, amounts)))
                columns.take(number, amounts)
                self._spread_at = number
            if not grants:
                why = why_infeasible(lasting, demand.placement, demand.strategy)
                why = kind.why = (self.endings.why_nothing(self.nodes.values()) or why) if why else ""
            kind.full = sum(count for _, count, _ in grants) < wanted
        patient = False
        if not grants and not why and not kind.in_group and self.now >= self._patient_at.get(key, self.now + 1.0):
            grants, patient = self._place_to_wait(lasting, demand), True
            self._sent_to_wait.append((self.now + SENT_TO_WAIT_S, kind, len(grants)))
        for _, count, _ in grants:
            demand.count -= count
            self.sent[key] = self.sent.get(key, 0) + count
        if grants or key in self._told_infeasible:
            why, told = "", why
        else:
            told = why
            if why:
                self._told_infeasible.add(key)
        if grants or why:
            self.outbox.append((raylet_of(key[0]), Tickets(demand.shape, grants, why, patient=patient)))
        if demand.count <= 0:
            self.drop(key)
        elif told or kind.in_group:
            self._patient_at.pop(key, None)
        else:
            if grants and not patient and not kind.full:
                self._again[key] = None
            self._wait(key, anew=bool(grants) or patient)

    def _wait(self, key: Key, anew: bool) -> None:
        """Its patience begins, if it has not begun."""
        if anew or key not in self._patient_at:
            self._patient_at[key] = self.now + PATIENCE_S
            heapq.heappush(self._due, (self._patient_at[key], key))

    def _lasting(self, columns: Snapshot, time_s: float) -> tuple[Snapshot, str]:
        """The nodes that last so long; and in words why there are none, if there are none."""
        numbers = columns.nodes.tolist()
        short, words = self.endings.too_short(numbers, time_s, self.now)
        if not short:
            return columns, ""
        lasting = columns.without(short)
        return lasting, "" if len(lasting.nodes) else words

    def _place_to_wait(self, columns: Snapshot, demand: NodeDemand) -> Grants:
        """A node where a demand that finds no room waits for its share of what is in use: each time another one."""
        from hpc.core.policy.placement import place

        def spreading(strategy: Any) -> Any:
            if strategy[0] == "where":
                return ["where", spreading(strategy[1]), strategy[2]]
            return strategy if strategy[0] == "node" else "SPREAD"

        plan = place(columns.emptied(), demand.placement, 1, spreading(demand.strategy), self._spread_at)
        for number, _ in plan:
            self._spread_at = number
        return [(number, count, self.promises.new(number, {})) for number, count in plan]

    def _never(self, demand: NodeDemand) -> tuple[FinalCause, str]:
        """Why a demand can never be served, whatever joins: (cause, text). The cause is empty where something could
        still change."""
        strategy = demand.strategy
        if strategy[0] == "where":
            strategy = strategy[1]
        if strategy[0] == "pg":
            why = self.groups.problem(strategy)
            return ("group_removed", why) if why else ("", self.groups.too_small(strategy, demand.placement))
        if strategy[0] == "node" and not strategy[2]:
            info = self.dead.get(strategy[1])
            if info is not None:
                return "unschedulable", f"node {info.node}, on which it had to run, has died: {info.why}"
            node = self.nodes.get(strategy[1])
            if node is not None and not fits(node.info.totals, demand.placement):
                has = {name: node.info.totals.get(name, 0) for name in demand.placement}
                wants = show(demand.placement)
                return "unschedulable", f"it needs {{{wants}}} on node {strategy[1]}, which has {{{show(has)}}} in all"
        return "", ""

    def _tickets_in_group(self, demand: NodeDemand) -> Grants:
        """Tickets for bundles of a placement group, as far as the reports show room in them."""
        grants: Grants = []
        left = demand.count
        for index, number in self.groups.homes(demand.strategy):
            node = self.nodes.get(number)
            key = (demand.strategy[1], index)
            if node is None or not left or key not in node.bundles:
                continue
            free = dict(node.bundles[key])
            pieces = dict(node.bundle_pieces.get(key, {}))
            for bundle, amounts in node.bundle_tickets.values():
                if bundle == key:
                    for name, units in amounts.items():
                        free[name] = free.get(name, 0) - units
                        if name in pieces:
                            pieces[name] = less(pieces[name], units)
            count = how_many(free, demand.placement, left)
            for name, there in pieces.items():
                if demand.placement.get(name):
                    count = min(count, times(there, demand.placement[name]))
            if count > 0:
                left -= count
                used = {name: units * count for name, units in demand.placement.items()}
                grants.append((number, count, self.promises.new_in_bundle(number, key, used)))
        return grants
