"""The head's machine: nodes, names, key-values, and which node serves a demand. It never sees a task or an object.

No I/O. What is to be sent lies in ``outbox``, nodes to be cut off in ``cut``, and nodes whose port is to be tried in
``to_try``. What must be written down before any of it is sent lies in ``journal``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from hpc.core.events.kinds import EventKind
from hpc.core.head.admission import is_sane
from hpc.core.head.demands import Demands
from hpc.core.head.detached import DetachedActors
from hpc.core.head.endings import Endings
from hpc.core.head.events import Events
from hpc.core.head.groups import REFUSED_S, Groups
from hpc.core.head.journal import Answered, AnyOp, Died, Joined, KeyGone, KeySet, NameGone, NameSet, Part, PartSet
from hpc.core.head.nodes import Node, Promises
from hpc.core.head.upward import Upward
from hpc.core.head.watch import Watches
from hpc.core.ids import HEAD, Address, owner_of, raylet_of
from hpc.core.metrics.cluster import ClusterMetrics
from hpc.core.wire import (
    WIRE_VERSION,
    Answer,
    ClusterQuery,
    Heartbeat,
    HeartbeatAck,
    KvDelete,
    KvGet,
    KvKeys,
    KvPut,
    KvUnwatch,
    KvWatch,
    Message,
    MetricsQuery,
    NameLookup,
    NameRegister,
    NameRelease,
    NodeDemand,
    NodeDied,
    NodeInfo,
    NodeRegister,
    NodeTable,
    PrepareEnv,
    ProcessGone,
    TreeMetrics,
)

if TYPE_CHECKING:
    from hpc.core.head.columns import Columns

MAX_KV_BYTES = 256 << 20
#: Answers to questions that changed something, kept for those who ask again after the head was restarted.
MAX_ANSWERS = 10_000
#: What waits for a group that was never made is told so within this time.
LOOK_S = 0.05
#: The head sleeps for a second at most. Of the time between two of its turns no more than this counts as silence of the
#: nodes: it was stopped itself for the rest, by a scheduler that suspends the job for instance, and the nodes with it.
TURN_S = 2.0
#: A port that never took a connection may be behind a firewall: it is tried so much more seldom.
UNSEEN = 8
#: Each node is told of each other one. Nodes that join one after the other are told together: between two times is this
#: for each node, at most TELL_MAX_S. Where anything is asked for all are told before.
TELL_S_PER_NODE = 0.002
TELL_MAX_S = 0.25
#: What raylets say of themselves while nothing is asked for.
OWN_NEWS = (NodeRegister, Heartbeat, TreeMetrics)
#: Questions that change something.
CHANGING = (NameRegister, KvPut, KvDelete)


class Named(Struct):
    """An actor that has a name."""

    actor: bytes
    handle: bytes


class HeadMachine:
    """All that the head knows and decides."""

    def __init__(
        self, epoch: int = 1, *, try_s: float = 2.0, suspect_s: float = 10.0, dead_s: float = 60.0, now: float = 0.0
    ) -> None:
        self.epoch = epoch
        self.try_s = try_s
        self.suspect_s = suspect_s
        self.dead_s = dead_s
        self.now = now
        #: Seconds that the head was awake: the silence of nodes is counted in these. It lags behind the clock, never
        #: the other way round, so that a node has ended itself before it is declared dead (see raylet/fence.py).
        self.awake_s = 0.0
        self.outbox: list[tuple[Address, Message]] = []
        self.cut: list[int] = []
        self.to_try: list[int] = []
        self.journal: list[AnyOp] = []
        self.answered: dict[tuple[int, int, int], Answered] = {}
        self.nodes: dict[int, Node] = {}
        self.dead: dict[int, NodeInfo] = {}
        self.names: dict[tuple[str, str], Named] = {}
        self.kv: dict[tuple[str, bytes], bytes] = {}
        self.kv_bytes = 0
        self.events = Events(lambda src, req, data: self._answer(src, req, True, data), now)
        self.endings = Endings()
        self.watches = Watches(self.kv, lambda src, req, data: self._answer(src, req, True, data))
        #: The allocation that the session runs in: "scheduler" and "job_id".
        self.allocation: dict[str, str] = {}
        #: Of a session that may grow, in the launcher's words: how far, what is asked for and why.
        self.growth: dict[str, Any] | None = None
        self.detached = DetachedActors(self.outbox, self._working_nodes, self._say_to_self, self._names_are_free)
        #: Numbers of nodes whose rows the columns must write anew. The columns are made when first needed: the import
        #: of numpy takes 0.1 s, and a session is ready before anything is placed.
        self._stale: dict[int, None] = {}
        self._columns: Columns | None = None
        self._joined: dict[int, NodeInfo] = {}
        self._tell_at = 0.0
        self._replan = False
        self._plan_at = 0.0
        self._look_at = 0.0
        self._silent_at = 0.0
        self.promises = Promises(self.nodes, self._stale, epoch)
        self.groups = Groups(self.outbox, self.promises.new, self.labels_of, self.events.note)
        self.demands = Demands(self.nodes, self.dead, self.groups, self.promises, self.endings, self.outbox)
        self.upward = Upward(self.nodes, self.demands, self.groups, self._stale, self.outbox)
        self.metrics = ClusterMetrics(self.outbox, self.nodes, self.dead)
        self.parts: dict[str, Part] = {
            "groups": self.groups, "detached": self.detached, "watches": self.watches, "events": self.events,
        }  # fmt: skip
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            **self.detached.handlers,
            **self.events.handlers,
            ClusterQuery: self._on_query,
            NodeDemand: self._on_demand,
            Heartbeat: self._on_heartbeat,
            KvDelete: self._on_kv_delete,
            KvGet: self._on_kv_get,
            KvKeys: self._on_kv_keys,
            KvPut: self._on_kv_put,
            KvUnwatch: self.watches.on_unwatch,
            KvWatch: self.watches.on_watch,
            MetricsQuery: lambda src, m: self._answer(src, m.req, True, self.metrics.on_query(src, m, self.now)),
            NameLookup: self._on_name_lookup,
            NameRegister: self._on_name_register,
            NameRelease: self._on_name_release,
            NodeRegister: self._on_node_register,
            PrepareEnv: self._on_prepare_env,
            ProcessGone: self._on_process_gone,
            TreeMetrics: lambda src, m: self.metrics.on_tree(src, m, self.now),
            **self.groups.handlers,
        }

    def handle(self, src: Address, messages: Sequence[Message], now: float, serve: bool = True) -> None:
        """Messages from a raylet or from a process behind it. Those of a node declared dead are not believed. Whoever
        has more of them says ``serve=False``: `tick` serves what they want, once for all."""
        self._set_time(now)
        if src.node in self.dead:
            self.outbox.append((raylet_of(src.node), NodeDied(src.node, self.dead[src.node].why)))
            return
        for msg in messages:
            handler = self.handlers.get(type(msg))
            if handler is None or not is_sane(msg):
                continue
            if self._joined and type(msg) not in OWN_NEWS:
                self._tell_joins()  # the answer may lead to one of them
            if not (type(msg) in CHANGING and self._said_before(src, msg)):
                handler(src, msg)
        if serve:
            self._serve()

    def _set_time(self, now: float) -> None:
        turn = now - self.now
        self.awake_s += turn if turn < TURN_S else TURN_S
        self.now = self.groups.now = self.promises.now = self.demands.now = self.events.now = now

    # -------------------------------------------------------------- what a restarted head must know

    def begin(self, epoch: int) -> None:
        """Start to work under a number that no head of this session had before."""
        self.epoch = epoch
        self.promises.begin(epoch)
        self.detached.begin(epoch, {number: info.why for number, info in self.dead.items()})
        self.watches.begin()
        if epoch > 1:
            self.endings.said = self.events.was_told("TIME_SET")
            self.events.note("HEAD_RESTARTED", f"head {epoch} of this session began: the one before has ended")

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

    def _names_are_free(self, actors: Sequence[bytes]) -> None:
        if actors:
            self._forget_names([key for key, named in self.names.items() if named.actor in actors])

    # -------------------------------------------------------------- nodes

    def _on_node_register(self, src: Address, msg: NodeRegister) -> None:
        info = msg.info
        if info.node != src.node:
            return
        if msg.version != WIRE_VERSION:
            why = f"it speaks wire version {msg.version}, the head {WIRE_VERSION}: install the same version everywhere"
            self.outbox.append((src, NodeDied(info.node, why)))
            return
        if info.node not in self.nodes and not info.gateway:
            self.events.note("NODE_JOINED", f"node {info.node} ({info.host}) joined", info.node)
        self.nodes[info.node] = Node(info, dict(info.totals), self.awake_s, try_at=self.awake_s + self.try_s)
        self._stale[info.node] = None
        if self.endings.at(info.node) is not None or self.endings.draining(info.node):
            self._tell_end(info.node)
        self.upward.joined(self.nodes[info.node], now=self.now)
        self._joined[info.node] = info
        self._silent_at = min(self._silent_at, self.awake_s + self.try_s)
        self.journal.append(Joined(info))
        self.demands.nodes_changed()
        self.groups.node_joined()

    def _tell_joins(self) -> None:
        """Send the nodes that joined the whole table, and the other nodes the new rows. Each message is made once."""
        self._tell_at = self.now + min(TELL_MAX_S, TELL_S_PER_NODE * len(self.nodes))
        joined, told = self._joined, list(self._joined.values())
        self._joined = {}
        table = NodeTable(self.epoch, [n.info for n in self.nodes.values()] + list(self.dead.values()))
        news = NodeTable(self.epoch, told)
        self.outbox += [(node.addr, table if number in joined else news) for number, node in self.nodes.items()]

    def _on_heartbeat(self, src: Address, msg: Heartbeat) -> None:
        node = self.nodes.get(src.node)
        if node is None:
            return
        node.heard, node.refused_at = self.awake_s, None
        if node.suspect:
            node.suspect = False
            self.events.note("NODE_HEARD", f"node {src.node} ({node.info.host}) is heard again", src.node)
            self._silent_at = min(self._silent_at, self.awake_s + self.try_s)
        node.free, node.workers, node.waiting, node.pieces = msg.free, msg.workers, msg.waiting, msg.pieces
        self._stale[src.node] = None
        bundles = {(group, index): free for group, index, free in msg.bundles}
        bundle_pieces = dict(zip(bundles, msg.bundle_pieces))
        if bundles != node.bundles or bundle_pieces != node.bundle_pieces:
            node.bundles, node.bundle_pieces = bundles, bundle_pieces
            self.promises.bundles_changed = True
        for ticket in msg.tickets:
            self.promises.end(ticket)
        self.upward.heard(node, msg, now=self.now)
        self.outbox.append((src, HeartbeatAck(self.epoch, msg.beat)))

    def learn_end(
        self, ends_at: float | None, nodes: Sequence[int] | None = None, why: str = "", *, now: float,
        taken: bool = False,
    ) -> None:  # fmt: skip
        """The scheduler has said when the session ends, or some of its nodes: those are told. With a ``why`` they drain
        from now on. ``taken``: for another job."""
        self._set_time(now)
        self.endings.learn(ends_at, nodes)
        if why:
            self.endings.drain(why, nodes, taken=taken)
        for number in list(self.nodes) if nodes is None else sorted(set(nodes) & self.nodes.keys()):
            self._tell_end(number)

    def _tell_end(self, number: int) -> None:
        node = self.nodes[number]
        self.outbox.append((node.addr, self.endings.message(number, self.now)))
        if not node.draining and (reason := self.endings.draining(number)):
            node.draining = reason
            self._stale[number] = None
            self.demands.nodes_changed()

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
        self._stale[number] = None
        self._joined.pop(number, None)
        drained = bool(self.endings.draining(number))
        if not info.gateway:
            kind: EventKind = "NODE_LEFT" if drained else "NODE_LOST"
            self.events.note(kind, f"node {number} ({info.host}) is gone: {why}", number)
        self.endings.forget(number)
        self.demands.forget_node(number)
        self._forget_names([k for k, n in self.names.items() if owner_of(n.actor).node == number])
        self.outbox.append((raylet_of(number), NodeDied(number, why)))
        self._tell_all(NodeDied(number, why, drained))
        self.detached.node_gone(number, why)
        self.watches.node_gone(number)
        self.demands.nodes_changed()
        self.groups.node_lost(number)
        self._serve()

    def _working_nodes(self) -> list[int]:
        return [number for number, node in self.nodes.items() if not node.info.gateway and not node.suspect]

    def _say_to_self(self, msg: Message) -> None:
        """The owner of detached actors speaks to the head as any owner does."""
        handler = self.handlers.get(type(msg))
        if handler is not None:
            handler(HEAD, msg)

    def _tell_all(self, msg: Message, but: int = -1) -> None:
        self.outbox += [(node.addr, msg) for number, node in self.nodes.items() if number != but]

    def _on_prepare_env(self, src: Address, msg: PrepareEnv) -> None:
        self.outbox += [(node.addr, msg) for node in self.nodes.values() if not node.info.gateway]
        self._answer(src, msg.req, True)

    def _on_process_gone(self, src: Address, msg: ProcessGone) -> None:
        if src != raylet_of(msg.addr.node):
            return  # a raylet tells of its own processes, and nobody else is believed
        self._forget_names([k for k, n in self.names.items() if owner_of(n.actor) == msg.addr])
        self.groups.process_gone(msg.addr)
        self.detached.process_gone(msg.addr)
        self.watches.process_gone(msg.addr)
        self._tell_all(msg, but=src.node)

    # -------------------------------------------------------------- demand

    def _on_demand(self, src: Address, msg: NodeDemand) -> None:
        self.demands.on_demand(src, msg)

    def labels_of(self, number: int) -> Mapping[str, str]:
        """The labels of a node that lives."""
        node = self.nodes.get(number)
        return node.info.labels if node is not None else {}

    def snapshot(self) -> Columns:
        """What is free on the nodes that take work, less what was promised."""
        if self._columns is None:
            from hpc.core.head.columns import Columns

            self._columns = Columns(self.nodes, self._stale)
        self.promises.lapse()
        self._columns.refresh()
        return self._columns

    def _serve(self) -> None:
        """Tell of nodes that joined and of keys that have changed, and reserve what placement groups wait for. Then
        answer demands with tickets, oldest first, as far as there is room in the last known columns."""
        waits = bool(self.demands.table) or self.groups.are_waiting
        if self._joined and (waits or self.now >= self._tell_at):
            self._tell_joins()
        self.watches.answer_changed()
        if not waits:
            return
        columns = self.snapshot()
        stirred, self.groups.stirred = self.groups.stirred, False
        if self.groups.are_waiting and (self._replan or stirred or columns.changed or columns.grown):
            self._replan = False
            self.groups.plan(columns)
        self.promises.bundles_changed |= stirred
        self.demands.serve(columns)
        columns.seen()

    # -------------------------------------------------------------- names and keys

    def _answer(self, src: Address, req: int, ok: bool, data: bytes = b"", why: str = "") -> None:
        self.outbox.append((src, Answer(req, ok, data, why)))

    def _on_name_register(self, src: Address, msg: NameRegister) -> None:
        key = (msg.namespace, msg.name)
        if key in self.names and self.names[key].actor != msg.actor:
            self._changed(src, msg.req, False, self.names[key].handle, "taken")  # it may be free when it is asked again
            self.detached.name_taken(msg.actor)
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
        version = self.watches.set(key)
        self.journal.append(KeySet(*key, msg.value, version))
        self._changed(src, msg.req, True, str(version).encode())

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
            self.journal.append(KeyGone(*key, self.watches.delete(key)))
        self._changed(src, msg.req, True, str(len(keys)).encode())

    def _on_kv_keys(self, src: Address, msg: KvKeys) -> None:
        keys = [k for ns, k in self.kv if ns == msg.namespace and k.startswith(msg.key)]
        self._answer(src, msg.req, True, msgspec.msgpack.encode(keys))

    # -------------------------------------------------------------- views

    def _on_query(self, src: Address, msg: ClusterQuery) -> None:
        if msg.what == "nodes":
            self._answer(src, msg.req, True, msgspec.json.encode(self.view()))
        elif msg.what == "session":
            ends_at = self.endings.session
            left = None if ends_at is None else max(0.0, ends_at - self.now)
            facts = {"epoch": self.epoch, "time_left_s": left, "growth": self.growth, **self.allocation}
            self._answer(src, msg.req, True, msgspec.json.encode(facts))
        else:
            self._answer(src, msg.req, False, why=f"there is no view called {msg.what!r}; there are: nodes, session")

    def view(self) -> list[dict[str, Any]]:
        """All nodes, living and dead, as plain data."""
        rows: list[dict[str, Any]] = []
        for node in self.nodes.values():
            row = self._row(node.info, node.free, node.workers, node.waiting, node.suspect)
            spare = {name: units - node.promised.get(name, 0) for name, units in node.free.items()}
            rows.append({**row, "open": node.takes_work, "spare": spare})
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
        """Try, suspect and bury silent nodes. They are gone through only when one may have been silent for too long."""
        if self.awake_s < self._silent_at:
            return
        self._silent_at = self.awake_s + self.suspect_s
        for number, node in list(self.nodes.items()):
            silent = self.awake_s - node.heard
            if silent > self.dead_s:
                self.lose_node(number, f"no word from it for {silent:.0f} s")
                continue
            if silent > self.suspect_s and not node.suspect:
                node.suspect = True
                self.events.note("NODE_SILENT", f"no word from node {number} for {silent:.0f} s", number)
                self._stale[number] = None
            limit = self.dead_s if node.suspect else self.suspect_s
            self._silent_at = min(self._silent_at, node.heard + limit, self._try(number, node))

    def _try(self, number: int, node: Node) -> float:
        """Have the port of a node tried that is silent, or new; returns when to look at it again."""
        if node.port_seen and node.heard + self.try_s > self.awake_s:
            return node.heard + self.try_s
        if self.awake_s >= node.try_at:
            node.try_at = self.awake_s + self.try_s * (1 if node.port_seen else UNSEEN)
            self.to_try.append(number)
        return node.try_at

    def port_tried(self, number: int, refused: bool) -> None:
        """What came of it. Whoever refuses has no process that listens there: where one was seen before, the raylet has
        ended. Its node has `try_s` more to end itself, and for its supervisor to say so in better words. A port that
        does not answer at all says nothing: it may be the network."""
        node = self.nodes.get(number)
        if node is None:
            return
        if not refused:
            node.port_seen, node.refused_at, node.try_at = True, None, self.awake_s + self.try_s
            self._silent_at = min(self._silent_at, node.try_at)
        elif node.port_seen and node.refused_at is None:
            node.refused_at = self.awake_s
        elif node.refused_at is not None and self.awake_s >= node.refused_at + self.try_s:
            self.lose_node(number, f"its raylet has ended: {node.info.endpoint} refuses connections")

    def tick(self, now: float) -> float:
        """Bury silent nodes, serve what waits; returns the time of the next tick."""
        self._set_time(now)
        self._look_for_silence()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self.groups.tick()
        waiting, unplaced = self.groups.are_waiting, self.groups.unplaced
        if waiting and now >= self._plan_at:
            # Reports make it plan again at once; this is for raylets that refused, and for patience that ends.
            self._replan = True
            self._plan_at = now + (REFUSED_S if any(group.refused for group in unplaced) else 0.25)
        for kind, text, number in self.endings.news(now):
            self.events.note_once(kind, text, number)
        self.events.tick()
        next_at = self.detached.tick(now)
        self._serve()
        next_at = min(next_at, self.demands.next_at(now) if self.demands.table else now + 1.0)
        next_at = min(next_at, self._tell_at) if self._joined else next_at
        return min(next_at, self._plan_at) if waiting else next_at
