"""The head's table of placement groups: plan, reserve in two phases, repair after a node's death, remove.

Each try to reserve has a number (attempt). Phase one asks all chosen raylets to take the resources out of what they
have free. In phase two, when all have said yes, they are told to use them. One no, or a death, gives back what was
taken, and the group is planned anew when there may be room. What a group has come to is journaled as a row of its own
(`changes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hpc.core.events.kinds import EventKind
from hpc.core.head.admission import NONSENSE
from hpc.core.head.group import CREATED, PENDING, PREPARING, REMOVED, RESCHEDULING, Group, LabelsOf, news
from hpc.core.head.group_view import view
from hpc.core.ids import Address, raylet_of
from hpc.core.resources import Amounts, fits, show
from hpc.core.wire import (
    Answer,
    BundleCommit,
    BundlePrepare,
    BundlePrepared,
    BundleReturn,
    BundlesHeld,
    Message,
    PgCreate,
    PgRemove,
    PgState,
    PgTable,
    PgWait,
    PgWarning,
)

if TYPE_CHECKING:
    from hpc.core.policy.placement import Snapshot

#: A raylet that refused is not asked again for so long: its next report says why.
REFUSED_S = 0.05
#: A group that has waited so long is waited for by raylets: what becomes free on the nodes of its plan is kept for it.
PATIENCE_S = 1.0
#: They do so for this long at most, and after a pause of the same length twice as long: what it waits for may wait, in
#: some way that nobody here sees, for what is kept.
HOLD_S = 10.0
MAX_HOLD_S = 600.0
#: A raylet where waiting would be in vain is left out of such plans for so long.
IN_VAIN_S = 2.0
NO_SUCH_GROUP = "there is no such placement group (any more)"
#: Removed groups that are remembered, for their error messages.
MAX_REMOVED = 1000
#: A group of which the head has never heard is waited for so long: those who use it may be faster than whoever makes
#: it, and a head that took the place of another is asked for it again.
UNHEARD_S = 5.0
#: Said where bundles are given back of a group that is still wanted.
GIVEN_UP = "this attempt to reserve was given up"


#: `ticket(node, amounts)` counts what a prepare will take until the node's report shows it; the number that it gets.
TicketMaker = Callable[[int, Amounts], int]


class Groups:
    """All placement groups of a session. Messages to send are left in ``outbox``. ``table`` has those that live,
    ``removed`` the last ones that do not, and whoever changes a group says so with `_note`."""

    def __init__(
        self,
        outbox: list[tuple[Address, Message]],
        ticket: TicketMaker,
        labels_of: LabelsOf,
        happened: Callable[[EventKind, str, int, str], None],
    ) -> None:
        self.outbox = outbox
        self._happened = happened
        self.table: dict[bytes, Group] = {}
        self.removed: dict[bytes, Group] = {}
        self._unplaced: dict[bytes, Group] = {}
        self._changed: dict[bytes, None] = {}
        self._order = 0
        self._holding = b""
        self._unheard: dict[bytes, float] = {}
        #: A group has changed: who waits for one, or in one, may have to be looked at.
        self.stirred = False
        self.patience_s = PATIENCE_S
        self.hold_s = HOLD_S
        self.holds = 0
        self.waiters: dict[bytes, list[tuple[Address, int]]] = {}
        self.now = 0.0
        self._ticket = ticket
        self._labels_of = labels_of
        self._seen: Snapshot | None = None
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            BundlePrepared: self._on_prepared,
            BundlesHeld: self._on_held,
            PgCreate: self._on_create,
            PgRemove: self._on_remove,
            PgTable: self._on_table,
            PgWait: self._on_wait,
        }

    def find(self, ident: bytes) -> Group | None:
        """A group, even if it was removed lately."""
        return self.table.get(ident) or self.removed.get(ident)

    def _tell(self, group: Group, kind: EventKind, what: str, node: int = 0) -> None:
        self._happened(kind, f"{group.words} {what}", node, group.group.hex())

    def _note(self, group: Group) -> None:
        """A group has changed. It is to be journaled, and its maker is told what that means for waiting. It may wait
        for resources now, or not any more."""
        self._changed[group.group] = None
        self.stirred = True
        told = news(group.state)
        if told != group.told:
            group.told = told
            self._send(group.maker, PgState(group.group, told, group.why))
        if group.waits:
            self._unplaced[group.group] = group
        else:
            self._unplaced.pop(group.group, None)

    def changes(self) -> Iterator[tuple[bytes, list[Any] | None]]:
        """The rows that have changed since this was asked last; None for one that is forgotten."""
        while self._changed:
            ident = next(iter(self._changed))
            del self._changed[ident]
            group = self.find(ident)
            yield ident, None if group is None else group.row()

    def rows(self) -> Iterator[tuple[bytes, list[Any]]]:
        """All rows."""
        for group in (*self.removed.values(), *self.table.values()):
            yield group.group, group.row()

    def load(self, key: bytes, data: list[Any] | None) -> None:
        """Take over a row."""
        self.table.pop(key, None)
        self.removed.pop(key, None)
        self._unplaced.pop(key, None)
        if data is not None:
            group = Group.from_row(data)
            (self.removed if group.state == REMOVED else self.table)[key] = group
            self._order = max(self._order, group.order)
            self._note(group)
            del self._changed[key]

    # -------------------------------------------------------------- questions

    def _send(self, dst: Address, msg: Message) -> None:
        self.outbox.append((dst, msg))

    def _on_create(self, src: Address, msg: PgCreate) -> None:
        if self.find(msg.group) is not None:
            self._send(src, Answer(msg.req, True))
            return
        if msg.name and self._by_name(msg.namespace, msg.name) is not None:
            why = f"the name {msg.name!r} is taken by another placement group in namespace {msg.namespace!r}"
            self._send(src, Answer(msg.req, False, why=why))
            return
        empty = [0] * len(msg.bundles)
        self._order += 1
        self._unheard.pop(msg.group, None)
        group = self.table[msg.group] = Group(
            msg.group, msg.name, msg.namespace, msg.strategy, msg.bundles, msg.selectors, msg.detached, msg.creator,
            self._order, src, msg.topology, nodes=empty, attempts=list(empty),
        )  # fmt: skip
        self._note(group)
        self._send(src, Answer(msg.req, True))

    def _by_name(self, namespace: str, name: str) -> Group | None:
        for group in self.table.values():
            if group.name == name and group.namespace == namespace:
                return group
        return None

    def _on_remove(self, src: Address, msg: PgRemove) -> None:
        group = self.table.get(msg.group)
        if group is not None:
            if src == group.maker:
                group.told = REMOVED  # it knows
            self.remove(group, "its placement group was removed by remove_placement_group()")
        elif msg.group not in self.removed:
            # What was said to a head that died may come in another order: this group is not to be made any more.
            self._order += 1
            gone = Group(msg.group, "", "", "PACK", [], [], False, src, self._order, src, [], REMOVED, told=REMOVED)
            gone.why = "its placement group was removed before it was made"
            self._bury(gone)
        self._send(src, Answer(msg.req, True))

    def _on_wait(self, src: Address, msg: PgWait) -> None:
        group = self.find(msg.group)
        if not msg.req:
            if group is not None:
                self._send(src, PgState(group.group, group.told, group.why))
        elif group is None and self._may_come(msg.group):
            self.waiters.setdefault(msg.group, []).append((src, msg.req))
        elif group is None or group.state == REMOVED:
            self._send(src, Answer(msg.req, False, why=group.why if group else NO_SUCH_GROUP))
        elif group.state == CREATED:
            self._send(src, Answer(msg.req, True))
        else:
            self.waiters.setdefault(msg.group, []).append((src, msg.req))

    def _on_table(self, src: Address, msg: PgTable) -> None:
        if msg.name:
            found = self._by_name(msg.namespace, msg.name)
            rows = [found] if found else []
        elif msg.group:
            one = self.find(msg.group)
            rows = [one] if one else []
        else:
            rows = [*self.removed.values(), *self.table.values()]
        self._send(
            src, Answer(msg.req, bool(rows) or not (msg.name or msg.group), view(rows, self._seen, self._labels_of))
        )

    def _tell_waiters(self, group: Group, ok: bool) -> None:
        for src, req in self.waiters.pop(group.group, []):
            self._send(src, Answer(req, ok, why=group.why))

    def _may_come(self, ident: bytes) -> bool:
        """Whether a group that is not in the tables may be on its way here."""
        if ident not in self._unheard:
            self._unheard[ident] = self.now
            while len(self._unheard) > MAX_REMOVED:
                self._give_up_on(next(iter(self._unheard)))
        return self.now < self._unheard[ident] + UNHEARD_S

    def _give_up_on(self, ident: bytes) -> None:
        del self._unheard[ident]
        if ident not in self.table:
            for src, req in self.waiters.pop(ident, []):
                self._send(src, Answer(req, False, why=NO_SUCH_GROUP))

    def tick(self) -> None:
        """Tell a process that waits for a group which was never made."""
        for ident in [ident for ident, since in self._unheard.items() if self.now >= since + 2 * UNHEARD_S]:
            self._give_up_on(ident)

    # -------------------------------------------------------------- the two phases

    @property
    def unplaced(self) -> list[Group]:
        """Groups that wait for resources, oldest first."""
        return sorted(self._unplaced.values(), key=lambda group: group.order)

    @property
    def are_waiting(self) -> bool:
        """Whether there is a group for which something could be done."""
        return bool(self._unplaced) or self.holding is not None

    @property
    def holding(self) -> Group | None:
        """The group for which raylets keep room at the moment: one at most, so that two cannot wait for each other."""
        group = self.table.get(self._holding)
        return group if group is not None and group.patient and group.planned else None

    def plan(self, snapshot: Snapshot) -> None:
        """Try to place what waits, oldest first; what a plan uses is taken out of the snapshot."""
        self._seen = snapshot
        holding = self.holding
        if holding is not None:
            self._look_after(snapshot, holding)
        for group in self.unplaced:
            try:
                self._plan_one(snapshot, group)
            except NONSENSE as error:
                self.remove(group, f"its placement group was removed, because it cannot be understood: {error!r}")
        if self.holding is None:
            self._hold_room(snapshot)

    def _look_after(self, snapshot: Snapshot, group: Group) -> None:
        """What is kept for a group is given up after a while, and when there is room for it as things are."""
        if self.now >= group.hold_at:
            self._give_up(group)
            group.hold_at = self.now + group.hold_s
            group.hold_s = min(MAX_HOLD_S, 2 * group.hold_s)
        elif group.places(snapshot, self._labels_of) is not None:
            self._give_up(group)

    def _hold_room(self, snapshot: Snapshot) -> None:
        """Have room kept for the oldest group that has waited long enough, on nodes that tasks alone keep from it."""
        late = [g for g in self.unplaced if g.since and self.now >= max(g.since + self.patience_s, g.hold_at)]
        if not late:
            return
        room = snapshot.emptied()
        there = {int(node) for node in snapshot.nodes}
        for group in self.table.values():
            for bundle, node in [
                *zip(group.bundles, group.nodes),
                *((group.bundles[i], n) for i, n in group.planned.items()),
            ]:
                if node in there:
                    room.take(node, bundle)
        for group in late:
            planned = group.places(
                room, self._labels_of, avoid=[node for node, until in group.in_vain.items() if until > self.now]
            )
            if planned is not None:
                self._holding = group.group
                group.hold_s = group.hold_s or self.hold_s
                group.hold_at = self.now + group.hold_s
                self.holds += 1
                self._prepare(group, planned, patient=True)
                return

    def _plan_one(self, snapshot: Snapshot, group: Group) -> None:
        from hpc.core.policy.group_reasons import why_no_group

        group.refused = {n: t for n, t in group.refused.items() if t > self.now}
        planned = group.places(snapshot, self._labels_of, avoid=group.refused.keys())
        if planned is not None:
            for index, node in planned.items():
                snapshot.take(node, group.bundles[index])
            self._prepare(group, planned)
            return
        group.since = group.since or self.now
        if not group.warned:
            why = why_no_group(snapshot, group.bundles, group.strategy, group.selectors, group.topology)
            if why:
                group.warned = f"{group.words} cannot be placed: {why}"
                if not group.said:
                    group.said = True
                    self._tell(group, "GROUP_UNPLACED", f"cannot be placed: {why}")
                self._send(group.creator, PgWarning(group.group, group.warned))

    def _prepare(self, group: Group, planned: dict[int, int], patient: bool = False) -> None:
        group.attempt += 1
        group.patient = patient
        group.planned, group.taken = planned, []
        group.awaited = sorted(set(planned.values()))
        self._note(group)
        for node in group.awaited:
            bundles = [(i, group.bundles[i]) for i, n in planned.items() if n == node]
            together: Amounts = {}
            for _, amounts in bundles:
                for name, units in amounts.items():
                    together[name] = together.get(name, 0) + units
            ticket = self._ticket(node, {} if patient else together)
            self._send(raylet_of(node), BundlePrepare(group.group, group.attempt, ticket, bundles, patient))

    def _on_prepared(self, src: Address, msg: BundlePrepared) -> None:
        group = self.find(msg.group)
        if group is None or group.attempt != msg.attempt or src.node not in group.awaited:
            if msg.ok and (group is None or not self._expects(group, src.node, msg.attempt)):
                self._send(src, BundleReturn(msg.group, msg.attempt, False, GIVEN_UP))
            return
        group.awaited.remove(src.node)
        if not msg.ok:
            if group.patient:
                group.in_vain[src.node] = self.now + IN_VAIN_S
            else:
                group.refused[src.node] = self.now + REFUSED_S
            self._give_up(group)
            return
        group.taken.append(src.node)
        if group.awaited:
            group.state = PREPARING if group.state == PENDING else group.state
            self._note(group)
            return
        for index, node in group.planned.items():
            group.nodes[index], group.attempts[index] = node, group.attempt
        for node in group.taken:
            self._send(raylet_of(node), BundleCommit(group.group, group.attempt))
        group.planned, group.taken = {}, []
        group.warned = ""
        group.patient = False
        if not group.missing:
            if group.state == RESCHEDULING or group.said:
                group.said = False
                self._tell(group, "GROUP_PLACED", "has all its bundles")
            group.state, group.since, group.hold_at, group.hold_s = CREATED, 0.0, 0.0, 0.0
            self._tell_waiters(group, True)
        self._note(group)

    @staticmethod
    def _expects(group: Group, node: int, attempt: int) -> bool:
        if group.state == REMOVED:
            return False
        return any(n == node and a == attempt for n, a in zip(group.nodes, group.attempts))

    def _give_up(self, group: Group) -> None:
        """This attempt has failed: what was taken, or may be still, goes back."""
        for node in [*group.taken, *group.awaited]:
            self._send(raylet_of(node), BundleReturn(group.group, group.attempt, False, GIVEN_UP))
        if group.patient:
            group.hold_at = 0.0  # at once, elsewhere
        group.planned, group.taken, group.awaited, group.patient = {}, [], [], False
        group.state = RESCHEDULING if any(group.nodes) or group.state == RESCHEDULING else PENDING
        self._note(group)

    def _on_held(self, src: Address, msg: BundlesHeld) -> None:
        """A raylet says what it holds; what nobody knows of goes back."""
        for ident, index, attempt, committed in msg.bundles:
            group = self.find(ident)
            if group is not None and index < len(group.nodes) and self._expects(group, src.node, attempt):
                if not committed:
                    self._send(src, BundleCommit(ident, attempt))
            elif group is None or group.attempt != attempt or src.node not in (*group.awaited, *group.taken):
                removed = group is None or group.state == REMOVED
                what = "removed" if removed else "reserved elsewhere"
                why = f"its placement group was {what} while this node was not reachable"
                self._send(src, BundleReturn(ident, attempt, removed, why))

    # -------------------------------------------------------------- ends

    def remove(self, group: Group, why: str) -> None:
        """End the group and what runs in it."""
        if group.state == REMOVED:
            return
        for node in sorted({*group.nodes, *group.taken, *group.awaited} - {0}):
            self._send(raylet_of(node), BundleReturn(group.group, 0, True, why))
        group.nodes = [0] * len(group.nodes)
        group.planned, group.taken, group.awaited = {}, [], []
        group.state, group.why = REMOVED, why
        self._tell_waiters(group, False)
        del self.table[group.group]
        self._bury(group)

    def _bury(self, group: Group) -> None:
        """Remember that a group was removed, and forget the oldest such."""
        self.removed[group.group] = group
        self._note(group)
        while len(self.removed) > MAX_REMOVED:
            oldest = next(iter(self.removed))
            del self.removed[oldest]
            self._changed[oldest] = None

    def process_gone(self, addr: Address) -> None:
        """A creator has ended: its groups end with it, unless they are detached."""
        for group in [g for g in self.table.values() if g.creator == addr and not g.detached]:
            self.remove(group, f"its placement group was removed: the process that made it, {addr}, has ended")
        for waiting in self.waiters.values():
            waiting[:] = [(src, req) for src, req in waiting if src != addr]

    def node_lost(self, node: int) -> None:
        """Bundles on a node that died are planned anew; the others stay, and so does what runs in them."""
        for group in list(self.table.values()):
            if group.creator.node == node and not group.detached:
                self._tell(group, "GROUP_REMOVED", f"is removed: its maker was on node {node}, which is gone", node)
                self.remove(group, "its placement group was removed: the node of the process that made it has died")
                continue
            if node in group.awaited or node in group.taken:
                group.awaited = [n for n in group.awaited if n != node]
                group.taken = [n for n in group.taken if n != node]
                self._give_up(group)
            if node in group.nodes:
                group.nodes = [0 if n == node else n for n in group.nodes]
                if group.planned:
                    self._give_up(group)
                group.state = RESCHEDULING
                self._tell(group, "GROUP_RESCHEDULED", f"lost bundles with node {node} and waits for others", node)
                self._note(group)

    def node_joined(self) -> None:
        """What could not be placed may be now, and if not that is said again."""
        for group in self.table.values():
            group.warned = ""

    # -------------------------------------------------------------- demands for bundles

    def problem(self, strategy: Any) -> str:
        """Why a demand for a group can never be served; empty if it can."""
        group = self.find(strategy[1])
        if group is None:
            return "" if self._may_come(strategy[1]) else NO_SUCH_GROUP
        if group.state == REMOVED:
            return group.why
        if strategy[2] >= len(group.bundles):
            return f"the placement group has {len(group.bundles)} bundles; there is none of index {strategy[2]}"
        return ""

    def too_small(self, strategy: Any, placement: Amounts) -> str:
        """Why none of the bundles that a demand may use could hold it even if empty; empty if one could."""
        group = self.table.get(strategy[1])
        if group is None:
            return ""
        bundles = [b for i, b in enumerate(group.bundles) if strategy[2] in (-1, i)]
        if any(fits(bundle, placement) for bundle in bundles):
            return ""
        has = " or ".join(sorted({f"{{{show(bundle)}}}" for bundle in bundles}))
        return f"{{{show(placement)}}} does not fit into the bundle that was asked for, which has {has}"

    def homes(self, strategy: Any) -> list[tuple[int, int]]:
        """(index, node) of the bundles that a demand may use and that are reserved now."""
        group = self.table.get(strategy[1])
        if group is None:
            return []
        return [(i, n) for i, n in enumerate(group.nodes) if n and strategy[2] in (-1, i)]
