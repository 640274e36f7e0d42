"""The head's machine: nodes, names, key-values, and which node serves a demand. It never sees a task or an object.

No I/O: what is to be sent lies in ``outbox``; nodes to be cut off in ``cut``; what must be written down before any of
it is sent in ``journal``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from hpc.core.head.journal import Answered, AnyOp, Died, Joined, KeyGone, KeySet, NameGone, NameSet, Part, PartSet
from hpc.core.head.sane import MAX_DEMAND, is_sane
from hpc.core.ids import Address, owner_of, raylet_of
from hpc.core.wire import (
    WIRE_VERSION,
    Answer,
    ClusterQuery,
    Demand,
    Heartbeat,
    HeartbeatAck,
    KvDelete,
    KvGet,
    KvKeys,
    KvPut,
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
MAX_KV_BYTES = 256 << 20
#: Answers to questions that changed something, kept for those who ask again after the head was restarted.
MAX_ANSWERS = 10_000
#: Questions that change something.
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
        self.parts: dict[str, Part] = {}
        self.parts_read: dict[str, Any] = {}
        self.nodes: dict[int, Node] = {}
        self.dead: dict[int, NodeInfo] = {}
        self.demands: dict[tuple[int, int], Demand] = {}
        self.tickets_sent: dict[tuple[int, int], int] = {}
        self.names: dict[tuple[str, str], Named] = {}
        self.kv: dict[tuple[str, bytes], bytes] = {}
        self.kv_bytes = 0
        self.ends_at: float | None = None
        self.shutdown_why = ""
        self._told_infeasible: set[tuple[int, int]] = set()
        self._next_ticket = epoch << 40
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            ClusterQuery: self._on_query,
            Demand: self._on_demand,
            Heartbeat: self._on_heartbeat,
            KvDelete: self._on_kv_delete,
            KvGet: self._on_kv_get,
            KvKeys: self._on_kv_keys,
            KvPut: self._on_kv_put,
            NameLookup: self._on_name_lookup,
            NameRegister: self._on_name_register,
            NameRelease: self._on_name_release,
            NodeRegister: self._on_node_register,
            ProcessGone: self._on_process_gone,
            Shutdown: self._on_shutdown,
        }

    def handle(self, src: Address, messages: Sequence[Message], now: float) -> None:
        """Messages from a raylet or from a process behind it. Those of a node declared dead are not believed."""
        self.now = now
        if src.node in self.dead:
            self.outbox.append((raylet_of(src.node), NodeDied(src.node, self.dead[src.node].why)))
            return
        for msg in messages:
            handler = self.handlers.get(type(msg))
            if handler is None or not is_sane(msg):
                continue
            if not (type(msg) in CHANGING and self._said_before(src, msg)):
                handler(src, msg)
        self._serve()

    # -------------------------------------------------------------- what a restarted head must know

    def begin(self, epoch: int) -> None:
        """Start to work under a number that no head of this session had before."""
        self.epoch = epoch
        self._next_ticket = epoch << 40

    def part_changed(self, name: str) -> None:
        """A part in ``parts`` has changed: its state is written down before anything else is sent."""
        self.journal.append(PartSet(name, self.parts[name].dump()))

    def add_part(self, name: str, part: Part) -> None:
        """Have a part's state journaled; it is given what an earlier head wrote down."""
        self.parts[name] = part
        if name in self.parts_read:
            part.load(self.parts_read[name])

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

    def _on_heartbeat(self, src: Address, msg: Heartbeat) -> None:
        node = self.nodes.get(src.node)
        if node is None:
            return
        node.heard = self.now
        node.suspect = False
        node.free, node.workers, node.waiting = msg.free, msg.workers, msg.waiting
        for ticket in msg.tickets:
            node.tickets.pop(ticket, None)
        left = -1.0 if self.ends_at is None else max(0.0, self.ends_at - self.now)
        self.outbox.append((src, HeartbeatAck(self.epoch, left)))

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
        self._forget_names([k for k, n in self.names.items() if owner_of(n.actor).node == number])
        self.outbox.append((raylet_of(number), NodeDied(number, why)))
        self._tell_all(NodeDied(number, why))
        self._told_infeasible.clear()
        self._serve()

    def _tell_all(self, msg: Message, but: int = -1) -> None:
        for number in self.nodes:
            if number != but:
                self.outbox.append((raylet_of(number), msg))

    def _on_process_gone(self, src: Address, msg: ProcessGone) -> None:
        self._forget_names([k for k, n in self.names.items() if owner_of(n.actor) == msg.addr])
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

    def _snapshot(self) -> Snapshot:
        from hpc.core.policy.placement import Snapshot

        rows = []
        for number, node in self.nodes.items():
            if node.info.gateway or node.suspect:
                continue
            free = dict(node.free)
            for ticket, (amounts, expires) in list(node.tickets.items()):
                if expires < self.now:
                    del node.tickets[ticket]
                    continue
                for name, units in amounts.items():
                    free[name] = free.get(name, 0) - units
            rows.append((number, node.info.totals, free))
        return Snapshot.of(rows)

    def _serve(self) -> None:
        """Answer demands with tickets, oldest first, as far as there is room in the last known view."""
        if not self.demands:
            return
        # Imported when first needed: numpy takes 0.1 s, and a session is ready before anything is placed.
        from hpc.core.policy.placement import place, why_infeasible

        snapshot = self._snapshot()
        for key, demand in list(self.demands.items()):
            try:
                plan = place(snapshot, demand.placement, min(demand.count, MAX_DEMAND), demand.strategy)
                told = bool(plan) or key in self._told_infeasible
                why = "" if told else why_infeasible(snapshot, demand.placement, demand.strategy)
            except (TypeError, ValueError, IndexError, KeyError, OverflowError):
                del self.demands[key]  # not a demand that could ever be served: nobody else waits for it
                continue
            grants = []
            for number, count in plan:
                self._next_ticket += 1
                amounts = {name: units * count for name, units in demand.placement.items()}
                self.nodes[number].tickets[self._next_ticket] = (amounts, self.now + TICKET_S)
                at = int((snapshot.nodes == number).argmax())
                for name, units in amounts.items():
                    if units:
                        snapshot.free[name][at] -= units
                grants.append((number, count, self._next_ticket))
                demand.count -= count
                self.tickets_sent[key] = self.tickets_sent.get(key, 0) + count
            if why:
                self._told_infeasible.add(key)
            if grants or why:
                self.outbox.append((raylet_of(key[0]), Tickets(demand.shape, grants, why)))
            if demand.count <= 0:
                del self.demands[key]

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
        else:
            self._answer(src, msg.req, False, why=f"there is no view called {msg.what!r}; there is: nodes")

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

    def tick(self, now: float) -> float:
        """Suspect and bury silent nodes; returns the time of the next tick."""
        self.now = now
        for number, node in list(self.nodes.items()):
            silent = now - node.heard
            if silent > self.dead_s:
                self.lose_node(number, f"no word from it for {silent:.0f} s")
            elif silent > self.suspect_s and not node.suspect:
                node.suspect = True
        self._serve()
        return now + (0.25 if self.demands else 1.0)
