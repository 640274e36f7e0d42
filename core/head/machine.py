"""The head's machine: nodes, names, key-values, and which node serves a demand. It never sees a task or an object.

No I/O: what is to be sent lies in ``outbox``; nodes to be cut off in ``cut``; what must be written down before any of
it is sent in ``journal``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from hpc.core.head.groups import REFUSED_S, Groups
from hpc.core.head.journal import Answered, AnyOp, Died, Joined, KeyGone, KeySet, NameGone, NameSet, Part, PartSet
from hpc.core.head.keeper import Keeper
from hpc.core.head.sane import MAX_DEMAND, NONSENSE, is_sane
from hpc.core.ids import Address, owner_of, raylet_of
from hpc.core.resources import Amounts, fits, how_many, show
from hpc.core.wire import (
    WIRE_VERSION,
    Answer,
    ClusterQuery,
    Demand,
    Heartbeat,
    HeartbeatAck,
    KeeperQuery,
    KvDelete,
    KvGet,
    KvKeys,
    KvPut,
    LeaseGrant,
    LeaseLost,
    Message,
    NameLookup,
    NameRegister,
    NameRelease,
    NodeDied,
    NodeInfo,
    NodeRegister,
    NodeTable,
    ProcessGone,
    Shutdown,
    Tickets,
)

if TYPE_CHECKING:
    from hpc.core.policy.placement import Snapshot

#: A ticket that was not reported as spent is forgotten after this time.
TICKET_S = 2.0
#: A demand that has found no room for so long goes to a full node, to wait there for its share.
PATIENCE_S = 0.2
MAX_KV_BYTES = 256 << 20
#: Answers to questions that changed something, kept for those who ask again after the head was restarted.
MAX_ANSWERS = 10_000
#: Questions that change something.
#: The head ticks with each turn of its reactor, and looks for silent nodes so often.
LOOK_S = 0.05
CHANGING = (NameRegister, KvPut, KvDelete)


@dataclass
class Node:
    """A node as the head knows it."""

    info: NodeInfo
    free: dict[str, int]
    heard: float
    workers: int = 0
    waiting: int = 0
    suspect: bool = False
    tickets: dict[int, tuple[dict[str, int], float]] = field(default_factory=dict)
    bundles: dict[tuple[bytes, int], dict[str, int]] = field(default_factory=dict)
    bundle_tickets: dict[int, tuple[tuple[bytes, int], dict[str, int], float]] = field(default_factory=dict)


@dataclass
class Named:
    """An actor that has a name."""

    actor: bytes
    handle: bytes


class HeadMachine:
    """All that the head knows and decides."""

    def __init__(self, epoch: int = 1, *, suspect_s: float = 10.0, dead_s: float = 60.0, now: float = 0.0) -> None:
        self.epoch = epoch
        self.suspect_s = suspect_s
        self.dead_s = dead_s
        self.now = now
        self.outbox: list[tuple[Address, Message]] = []
        self.cut: list[int] = []
        self.journal: list[AnyOp] = []
        self.answered: dict[tuple[int, int, int], Answered] = {}
        self.nodes: dict[int, Node] = {}
        self.dead: dict[int, NodeInfo] = {}
        self.demands: dict[tuple[int, int], Demand] = {}
        self.tickets_sent: dict[tuple[int, int], int] = {}
        self.names: dict[tuple[str, str], Named] = {}
        self.kv: dict[tuple[str, bytes], bytes] = {}
        self.kv_bytes = 0
        self.ends_at: float | None = None
        #: The allocation that the session runs in: "scheduler" and "job_id".
        self.allocation: dict[str, str] = {}
        self.shutdown_why = ""
        self.keeper = Keeper(epoch, lambda dst, msg: self.outbox.append((dst, msg)), self._working_nodes)
        self._told_infeasible: set[tuple[int, int]] = set()
        self._next_ticket = epoch << 40
        self._ticket_at: dict[int, int] = {}
        self._spread_at = 0
        self._unserved: dict[tuple[int, int], float] = {}
        self._replan = False
        self._plan_at = 0.0
        self._look_at = 0.0
        self.groups = Groups(self.outbox, self._ticket)
        self.parts: dict[str, Part] = {"groups": self.groups, "keeper": self.keeper}
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            ClusterQuery: self._on_query,
            Demand: self._on_demand,
            Heartbeat: self._on_heartbeat,
            KeeperQuery: self.keeper.on_query,
            KvDelete: self._on_kv_delete,
            KvGet: self._on_kv_get,
            KvKeys: self._on_kv_keys,
            KvPut: self._on_kv_put,
            LeaseGrant: self.keeper.on_grant,
            LeaseLost: self._on_lease_lost,
            NameLookup: self._on_name_lookup,
            NameRegister: self._on_name_register,
            NameRelease: self._on_name_release,
            NodeRegister: self._on_node_register,
            ProcessGone: self._on_process_gone,
            Shutdown: self._on_shutdown,
            **self.groups.handlers,
        }

    def handle(self, src: Address, messages: Sequence[Message], now: float, serve: bool = True) -> None:
        """Messages from a raylet or from a process behind it. Those of a node declared dead are not believed. Whoever
        has more of them says ``serve=False``: `tick` serves what they want, once for all."""
        self.now = self.groups.now = now
        if src.node in self.dead:
            self.outbox.append((raylet_of(src.node), NodeDied(src.node, self.dead[src.node].why)))
            return
        for msg in messages:
            handler = self.handlers.get(type(msg))
            if handler is None or not is_sane(msg):
                continue
            if not (type(msg) in CHANGING and self._said_before(src, msg)):
                handler(src, msg)
                self._replan = self._replan or type(msg) is not Heartbeat
        if serve:
            self._serve()

    # -------------------------------------------------------------- what a restarted head must know

    def begin(self, epoch: int) -> None:
        """Start to work under a number that no head of this session had before."""
        self.epoch = epoch
        self._next_ticket = epoch << 40
        self.keeper.begin(epoch)

    def journal_parts(self) -> None:
        """Write down what has changed in the parts: called before anything is sent."""
        for name, part in self.parts.items():
            self.journal += [PartSet(name, key, row) for key, row in part.changes()]

    def remember(self, answer: Answered) -> None:
        """Keep an answer, and forget the oldest ones."""
        self.answered[(answer.node, answer.proc, answer.req)] = answer
        while len(self.answered) > MAX_ANSWERS:
            del self.answered[next(iter(self.answered))]

    def _said_before(self, src: Address, msg: Any) -> bool:
        old = self.answered.get((src.node, src.proc, msg.req))
        if old is not None:
            self.outbox.append((src, Answer(old.req, old.ok, old.data, old.why)))
        return old is not None

    def _changed(self, src: Address, req: int, ok: bool, data: bytes = b"", why: str = "") -> None:
        """Answer a question that may have changed something."""
        answer = Answered(src.node, src.proc, req, ok, data, why)
        self.remember(answer)
        self.journal.append(answer)
        self._answer(src, req, ok, data, why)

    def _forget_names(self, names: list[tuple[str, str]]) -> None:
        for key in names:
            del self.names[key]
            self.journal.append(NameGone(*key))

    # -------------------------------------------------------------- nodes

    def _on_node_register(self, src: Address, msg: NodeRegister) -> None:
        info = msg.info
        if info.node != src.node:
            return
        if msg.version != WIRE_VERSION:
            why = f"it speaks wire version {msg.version}, the head {WIRE_VERSION}: install the same version everywhere"
            self.outbox.append((src, NodeDied(info.node, why)))
            return
        self.nodes[info.node] = Node(info, dict(info.totals), self.now)
        self.journal.append(Joined(info))
        table = [n.info for n in self.nodes.values()] + list(self.dead.values())
        self.outbox.append((src, NodeTable(self.epoch, table)))
        self._tell_all(NodeTable(self.epoch, [info]), but=info.node)
        self._told_infeasible.clear()
        self.groups.node_joined()

    def _on_heartbeat(self, src: Address, msg: Heartbeat) -> None:
        node = self.nodes.get(src.node)
        if node is None:
            return
        node.heard = self.now
        node.suspect = False
        if msg.tickets or msg.free != node.free:
            self._replan = True
        node.free, node.workers, node.waiting = msg.free, msg.workers, msg.waiting
        node.bundles = {(group, index): free for group, index, free in msg.bundles}
        for ticket in msg.tickets:
            holder = self.nodes.get(self._ticket_at.pop(ticket, 0))
            if holder is not None:
                holder.tickets.pop(ticket, None)
                holder.bundle_tickets.pop(ticket, None)
        left = -1.0 if self.ends_at is None else max(0.0, self.ends_at - self.now)
        self.outbox.append((src, HeartbeatAck(self.epoch, left, msg.beat)))

    def lose_node(self, number: int, why: str) -> None:
        """The node is gone for good: everyone is told, and its number never comes back."""
        node = self.nodes.pop(number, None)
        if node is None:
            return
        info = node.info
        info.alive, info.why = False, why
        self.dead[number] = info
        self.journal.append(Died(info))
        self.cut.append(number)
        for key in [k for k in self.demands if k[0] == number]:
            del self.demands[key]
        for key in [k for k in self.tickets_sent if k[0] == number]:
            del self.tickets_sent[key]
            self._unserved.pop(key, None)
        self._forget_names([k for k, n in self.names.items() if owner_of(n.actor).node == number])
        self.outbox.append((raylet_of(number), NodeDied(number, why)))
        self._tell_all(NodeDied(number, why))
        self.keeper.forget_node(number)
        self._told_infeasible.clear()
        self.groups.node_lost(number)
        self._replan = True
        self._serve()

    def _working_nodes(self) -> list[int]:
        return [number for number, node in self.nodes.items() if not node.info.gateway and not node.suspect]

    def _on_lease_lost(self, src: Address, msg: LeaseLost) -> None:
        gone = self.keeper.on_lost(msg)
        if gone is not None:
            self._on_process_gone(src, ProcessGone(gone, msg.why))

    def _tell_all(self, msg: Message, but: int = -1) -> None:
        for number in self.nodes:
            if number != but:
                self.outbox.append((raylet_of(number), msg))

    def _on_process_gone(self, src: Address, msg: ProcessGone) -> None:
        self._forget_names([k for k, n in self.names.items() if owner_of(n.actor) == msg.addr])
        self.groups.process_gone(msg.addr)
        self._tell_all(msg, but=src.node)

    def _on_shutdown(self, src: Address, msg: Shutdown) -> None:
        self.shutdown_why = msg.why or f"process {src} asked for it"

    # -------------------------------------------------------------- demand

    def _on_demand(self, src: Address, msg: Demand) -> None:
        key = (src.node, msg.shape)
        msg.count -= self.tickets_sent.get(key, 0) - msg.seen
        if msg.count > 0:
            self.demands[key] = msg
        else:
            self.demands.pop(key, None)
            self._told_infeasible.discard(key)
            self._unserved.pop(key, None)

    def _ticket(self, number: int, amounts: Amounts) -> int:
        """A number under which these amounts count as used on a node until its report shows it."""
        ticket = self._new_ticket(number)
        self.nodes[number].tickets[ticket] = (amounts, self.now + TICKET_S)
        return ticket

    def _new_ticket(self, number: int) -> int:
        self._next_ticket += 1
        self._ticket_at[self._next_ticket] = number
        return self._next_ticket

    def _snapshot(self) -> Snapshot:
        from hpc.core.policy.placement import Snapshot

        rows = []
        labels = {}
        for number, node in self.nodes.items():
            if node.info.gateway or node.suspect:
                continue
            free = dict(node.free)
            for ticket, (amounts, expires) in list(node.tickets.items()):
                if expires < self.now:
                    del node.tickets[ticket]
                    self._ticket_at.pop(ticket, None)
                    continue
                for name, units in amounts.items():
                    free[name] = free.get(name, 0) - units
            rows.append((number, node.info.totals, free))
            labels[number] = node.info.labels
        return Snapshot.of(rows, labels)

    def _serve(self) -> None:
        """Reserve what placement groups wait for, and answer demands with tickets, oldest first, as far as there is
        room in the last known view."""
        replan, self._replan = self._replan and self.groups.are_waiting, False
        if not self.demands and not replan:
            return
        # Imported when first needed: numpy takes 0.1 s, and a session is ready before anything is placed.
        import hpc.core.policy.placement  # noqa: F401

        snapshot = self._snapshot()
        if replan:
            self.groups.plan(snapshot)
        for key, demand in list(self.demands.items()):
            try:
                self._serve_one(snapshot, key, demand)
            except NONSENSE:
                # Not a demand that could ever be served; nobody else waits for it.
                self.demands.pop(key, None)
                self._unserved.pop(key, None)

    def _serve_one(self, snapshot: Snapshot, key: tuple[int, int], demand: Demand) -> None:
        from hpc.core.policy.placement import place, why_infeasible

        final, why = self._never(demand)
        if final:
            del self.demands[key]
            self._unserved.pop(key, None)
            self.outbox.append((raylet_of(key[0]), Tickets(demand.shape, [], why, final)))
            return
        if demand.strategy[0] == "pg":
            grants = self._tickets_in_group(demand)
        else:
            grants = []
            wanted = min(demand.count, MAX_DEMAND)
            for number, count in place(snapshot, demand.placement, wanted, demand.strategy, self._spread_at):
                amounts = {name: units * count for name, units in demand.placement.items()}
                grants.append((number, count, self._ticket(number, amounts)))
                snapshot.take(number, amounts)
                self._spread_at = number
            if not grants:
                why = why_infeasible(snapshot, demand.placement, demand.strategy)
        patient = False
        if grants or why or demand.strategy[0] == "pg":
            self._unserved.pop(key, None)
        elif self.now - self._unserved.setdefault(key, self.now) >= PATIENCE_S:
            grants, patient = self._place_to_wait(snapshot, demand), True
            del self._unserved[key]
        for _, count, _ in grants:
            demand.count -= count
            self.tickets_sent[key] = self.tickets_sent.get(key, 0) + count
        if grants or key in self._told_infeasible:
            why = ""
        elif why:
            self._told_infeasible.add(key)
        if grants or why:
            self.outbox.append((raylet_of(key[0]), Tickets(demand.shape, grants, why, patient=patient)))
        if demand.count <= 0:
            del self.demands[key]

    def _place_to_wait(self, snapshot: Snapshot, demand: Demand) -> list[tuple[int, int, int]]:
        """A node where a demand that finds no room waits for its share of what is in use: each time another one."""
        from hpc.core.policy.placement import Snapshot, place

        def spreading(strategy: Any) -> Any:
            if strategy[0] == "where":
                return ["where", spreading(strategy[1]), strategy[2]]
            return strategy if strategy[0] == "node" else "SPREAD"

        empty = Snapshot(snapshot.nodes, snapshot.totals, snapshot.totals, snapshot.labels)
        plan = place(empty, demand.placement, 1, spreading(demand.strategy), self._spread_at)
        for number, _ in plan:
            self._spread_at = number
        return [(number, count, self._ticket(number, {})) for number, count in plan]

    def _never(self, demand: Demand) -> tuple[str, str]:
        """Why a demand can never be served, whatever joins: (kind of error, text). The kind is empty where something
        could still change."""
        strategy = demand.strategy
        if strategy[0] == "where":
            strategy = strategy[1]
        if strategy[0] == "pg":
            why = self.groups.problem(strategy)
            return ("removed", why) if why else ("", self.groups.too_small(strategy, demand.placement))
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

    def _tickets_in_group(self, demand: Demand) -> list[tuple[int, int, int]]:
        """Tickets for bundles of a placement group, as far as the reports show room in them."""
        grants: list[tuple[int, int, int]] = []
        left = demand.count
        for index, number in self.groups.homes(demand.strategy):
            node = self.nodes.get(number)
            key = (demand.strategy[1], index)
            if node is None or not left or key not in node.bundles:
                continue
            free = dict(node.bundles[key])
            for ticket, (bundle, amounts, expires) in list(node.bundle_tickets.items()):
                if expires < self.now:
                    del node.bundle_tickets[ticket]
                    self._ticket_at.pop(ticket, None)
                elif bundle == key:
                    for name, units in amounts.items():
                        free[name] = free.get(name, 0) - units
            count = how_many(free, demand.placement, left)
            if count > 0:
                left -= count
                ticket = self._new_ticket(number)
                used = {name: units * count for name, units in demand.placement.items()}
                node.bundle_tickets[ticket] = (key, used, self.now + TICKET_S)
                grants.append((number, count, ticket))
        return grants

    # -------------------------------------------------------------- names and keys

    def _answer(self, src: Address, req: int, ok: bool, data: bytes = b"", why: str = "") -> None:
        self.outbox.append((src, Answer(req, ok, data, why)))

    def _on_name_register(self, src: Address, msg: NameRegister) -> None:
        key = (msg.namespace, msg.name)
        if key in self.names and self.names[key].actor != msg.actor:
            self._answer(src, msg.req, False, self.names[key].handle, "taken")
            return
        self.names[key] = Named(msg.actor, msg.handle)
        self.journal.append(NameSet(*key, msg.actor, msg.handle))
        self._changed(src, msg.req, True)

    def _on_name_lookup(self, src: Address, msg: NameLookup) -> None:
        if not msg.name:
            found = [[ns, name] for ns, name in self.names if msg.namespace in ("", ns)]
            self._answer(src, msg.req, True, msgspec.json.encode(found))
            return
        named = self.names.get((msg.namespace, msg.name))
        if named is None:
            self._answer(src, msg.req, False, why="there is no actor of this name")
        else:
            self._answer(src, msg.req, True, named.handle)

    def _on_name_release(self, src: Address, msg: NameRelease) -> None:
        named = self.names.get((msg.namespace, msg.name))
        if named is not None and named.actor == msg.actor:
            self._forget_names([(msg.namespace, msg.name)])

    def _on_kv_put(self, src: Address, msg: KvPut) -> None:
        key = (msg.namespace, msg.key)
        old = self.kv.get(key)
        if old is not None and not msg.overwrite:
            self._answer(src, msg.req, True, b"0")
            return
        size = self.kv_bytes + len(msg.value) - len(old or b"")
        if size > MAX_KV_BYTES:
            self._answer(src, msg.req, False, why=f"the key-value store is full ({MAX_KV_BYTES >> 20} MiB)")
            return
        self.kv_bytes = size
        self.kv[key] = msg.value
        self.journal.append(KeySet(*key, msg.value))
        self._changed(src, msg.req, True, b"1")

    def _on_kv_get(self, src: Address, msg: KvGet) -> None:
        value = self.kv.get((msg.namespace, msg.key))
        self._answer(src, msg.req, value is not None, value or b"")

    def _on_kv_delete(self, src: Address, msg: KvDelete) -> None:
        if msg.prefix:
            keys = [k for k in self.kv if k[0] == msg.namespace and k[1].startswith(msg.key)]
        else:
            keys = [k for k in [(msg.namespace, msg.key)] if k in self.kv]
        for key in keys:
            self.kv_bytes -= len(self.kv.pop(key))
            self.journal.append(KeyGone(*key))
        self._changed(src, msg.req, True, str(len(keys)).encode())

    def _on_kv_keys(self, src: Address, msg: KvKeys) -> None:
        keys = [k for ns, k in self.kv if ns == msg.namespace and k.startswith(msg.key)]
        self._answer(src, msg.req, True, msgspec.msgpack.encode(keys))

    # -------------------------------------------------------------- views

    def _on_query(self, src: Address, msg: ClusterQuery) -> None:
        if msg.what == "nodes":
            self._answer(src, msg.req, True, msgspec.json.encode(self.view()))
        elif msg.what == "session":
            left = None if self.ends_at is None else max(0.0, self.ends_at - self.now)
            facts = {"epoch": self.epoch, "time_left_s": left, **self.allocation}
            self._answer(src, msg.req, True, msgspec.json.encode(facts))
        else:
            self._answer(src, msg.req, False, why=f"there is no view called {msg.what!r}; there are: nodes, session")

    def view(self) -> list[dict[str, Any]]:
        """All nodes, living and dead, as plain data."""
        rows: list[dict[str, Any]] = []
        for node in self.nodes.values():
            rows.append(self._row(node.info, node.free, node.workers, node.waiting, node.suspect))
        rows.extend(self._row(info, {}, 0, 0, False) for info in self.dead.values())
        return sorted(rows, key=lambda r: r["node"])

    def _row(self, info: NodeInfo, free: dict[str, int], workers: int, waiting: int, suspect: bool) -> dict[str, Any]:
        return {
            "node": info.node,
            "host": info.host,
            "endpoint": info.endpoint,
            "alive": info.alive,
            "suspect": suspect,
            "why": info.why,
            "gateway": info.gateway,
            "labels": info.labels,
            "totals": info.totals,
            "free": free,
            "workers": workers,
            "waiting": waiting,
            "pid": info.pid,
            "dir": info.dir,
        }

    # -------------------------------------------------------------- time

    def _look_for_silence(self) -> None:
        for number, node in list(self.nodes.items()):
            silent = self.now - node.heard
            if silent > self.dead_s:
                self.lose_node(number, f"no word from it for {silent:.0f} s")
            elif silent > self.suspect_s and not node.suspect:
                node.suspect = True

    def tick(self, now: float) -> float:
        """Suspect and bury silent nodes; returns the time of the next tick."""
        self.now = self.groups.now = now
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look_for_silence()
            self.groups.tick()
        waiting, unplaced = self.groups.are_waiting, self.groups.unplaced
        if waiting and now >= self._plan_at:
            # Reports make it plan again at once; this is for raylets that refused, and tickets that lapse.
            self._replan = True
            self._plan_at = now + (REFUSED_S if any(group.refused for group in unplaced) else 0.25)
        self._serve()
        next_at = now + (0.25 if self.demands else 1.0)
        return min(next_at, self._plan_at) if waiting else next_at
