"""The raylet's machine: all messages for the raylet of one node, and what follows from them.

Like the owner's machine it has no I/O. Messages to send lie in ``outbox`` and bulk messages in ``bulk``. Processes to
start or end are in ``leasing.to_start`` and ``leasing.to_kill``, links to open or drop in ``links``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from hpc.core.causes import LostCause
from hpc.core.events.kinds import EventKind
from hpc.core.ids import HEAD, Address
from hpc.core.metrics.node import NodeMetrics
from hpc.core.metrics.table import WORKERS_ENDED
from hpc.core.net.frames import answer_rows
from hpc.core.raylet import draining
from hpc.core.raylet.borrowing import Borrowing
from hpc.core.raylet.bulletins import BulletinBoard
from hpc.core.raylet.events import NodeEvents
from hpc.core.raylet.fence import Fence
from hpc.core.raylet.history import History
from hpc.core.raylet.leasing import Env, Leasing
from hpc.core.raylet.leaving import Departure
from hpc.core.raylet.new_head import GoneLately, first_words, forget_promises
from hpc.core.raylet.numbers import Numbers
from hpc.core.raylet.object_store import FULL_TIMEOUT_S, ObjectStore
from hpc.core.raylet.preparing import prepare
from hpc.core.raylet.pulls import ArenaMemory
from hpc.core.raylet.report import Row, report
from hpc.core.raylet.spill import Spiller
from hpc.core.raylet.tables import Proc
from hpc.core.raylet.vacancy import let_workers_end, vacancy, vacate
from hpc.core.resources import NodeResources
from hpc.core.store.layout import Layout
from hpc.core.wire import (
    WIRE_VERSION,
    Abandon,
    Alloc,
    AllSealed,
    Blocked,
    BorrowAdd,
    BorrowDrop,
    BundleCommit,
    BundlePrepare,
    BundleReturn,
    BundlesHeld,
    Cleared,
    Exiting,
    Fetch,
    FetchAll,
    Free,
    HeadHolds,
    Heartbeat,
    HeartbeatAck,
    HoldAcked,
    Inherit,
    Keep,
    Kept,
    KillWorker,
    LeaseRefused,
    LeaseRequest,
    LeaseReturn,
    Message,
    NodeDied,
    NodeInfo,
    NodeRegister,
    NodeTable,
    NodeTime,
    PrepareEnv,
    ProcessGone,
    Pull,
    PullBusy,
    PullFailed,
    Seal,
    StateQuery,
    StillWanted,
    Tickets,
    ToldToEnd,
    Unblocked,
    Unpin,
    Unroutable,
    Vacate,
)

#: Changes of what is free are told to the head after this time, together.
REPORT_DELAY_S = 0.01
#: Signals that come to the raylet and to a worker within this time were sent to all.
TOGETHER_S = 2.0
#: And changes of what is free in bundles of placement groups after this one.
BUNDLE_DELAY_S = 0.002
#: What there is to be asked for: name to rows.
Reports = dict[str, Callable[[int], list[Row]]]


class RayletMachine:
    """All that a raylet knows and decides."""

    def __init__(
        self,
        info: NodeInfo,
        resources: NodeResources,
        layout: Layout,
        arena: ArenaMemory,
        *,
        now: float = 0.0,
        prestart: int = 0,
        heartbeat_s: float = 1.0,
        fence_s: float = 45.0,
        spiller: Spiller | None = None,
        full_timeout_s: float = FULL_TIMEOUT_S,
    ) -> None:
        node = self.node = info.node
        self.info, self.now = info, now
        self.outbox: list[tuple[Address, Message]] = []
        self.links: list[tuple[Literal["dial", "forget"], NodeInfo]] = []
        self.leasing = Leasing(node, resources, prestart=prestart, now=now)
        self.leasing.labels = info.labels
        self.store = ObjectStore(node, layout, arena, spiller=spiller, full_timeout_s=full_timeout_s)
        self.store.is_there = self.leasing.procs.__contains__
        self.store.is_running, self.store.describe = self._is_running, self._describe
        self.borrowing = Borrowing(node)
        self.leasing.outbox = self.store.outbox = self.borrowing.outbox = self.outbox
        self.bulk = self.store.bulk
        self.nodes: dict[int, NodeInfo] = {}
        self.history, self.bulletins = History(node, self.outbox), BulletinBoard(node, self.outbox, lambda: self.now)
        self.events = NodeEvents(node, self.outbox, self.store.spiller, now)
        self.departure = Departure(node, self.store, lambda: self.nodes, self.outbox)
        self.metrics = NodeMetrics(info, self.outbox, Numbers(self.leasing, self.store).samples)
        self.dead: dict[int, str] = {}
        self.registered = self.said_drained = False
        self.signalled_at = float("-inf")  # when somebody sent the raylet a SIGTERM
        self.epoch, self.heartbeat_s = 0, heartbeat_s
        self.fence = Fence(fence_s, heartbeat_s)
        self.fenced = ""
        self.gone_lately = GoneLately(4 * fence_s)
        #: What is known beside, by the shell too: name to rows (log files, workers that have ended).
        self.reports: Reports = {"bulletins": self.bulletins.rows, "ended_actors": self.history.actor_rows}
        self._last_free: dict[str, int] = {}
        self._last_report, self._last_moves = 0.0, 0
        self._changed_at: float | None = None
        self._bundles_at: float | None = None
        leasing, store, borrowing = self.leasing, self.store, self.borrowing
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            **(self.history.handlers | self.bulletins.handlers),
            Abandon: store.on_abandon,
            Alloc: store.on_alloc,
            AllSealed: store.on_all_sealed,
            Blocked: leasing.on_blocked,
            BundleCommit: leasing.on_bundle_commit,
            BundlePrepare: leasing.on_bundle_prepare,
            BundleReturn: leasing.on_bundle_return,
            BorrowAdd: borrowing.on_borrow_add,
            BorrowDrop: borrowing.on_borrow_drop,
            Cleared: leasing.on_cleared,
            Exiting: self._on_exiting,
            Fetch: store.on_fetch,
            FetchAll: store.on_fetch_all,
            Free: store.on_free,
            HoldAcked: borrowing.on_hold_acked,
            Keep: self._on_keep,
            Kept: self.departure.on_kept,
            KillWorker: leasing.on_kill_worker,
            LeaseRefused: leasing.on_lease_refused,
            LeaseRequest: leasing.on_lease_request,
            LeaseReturn: leasing.on_lease_return,
            PrepareEnv: lambda src, m: prepare(self.leasing, m),
            Seal: store.on_seal,
            StateQuery: self._on_state_query,
            Tickets: leasing.on_tickets,
            ToldToEnd: self._on_told_to_end,
            Unblocked: leasing.on_unblocked,
            Unpin: store.on_unpin,
            Unroutable: self._on_unroutable,
            StillWanted: self.departure.on_wanted,
            **self._words_of_the_head(),
            **self.metrics.handlers,
            Vacate: lambda src, m: vacate(self.leasing, m.on),
        }

    def _words_of_the_head(self) -> dict[type, Callable[[Address, Any], None]]:
        """What nobody else is believed: any process can send any message."""
        handlers: dict[type, Callable[[Address, Any], None]] = {
            HeadHolds: lambda src, m: self._tell_processes(m),
            HeartbeatAck: self._on_heartbeat_ack,
            Inherit: lambda src, m: self.store.free_ownerless(self.store.ownerless.inherit(src, m)),
            NodeDied: lambda src, m: self.node_died(m.node, m.why, m.drained),
            NodeTable: self._on_node_table,
            NodeTime: self._on_node_time,
            ProcessGone: lambda src, m: self._process_gone(m),
        }
        return {kind: _of_the_head(handler) for kind, handler in handlers.items()}

    def join(self) -> None:
        """Ask the head to be admitted; say which bundles are held here, if any."""
        self.outbox.append((HEAD, NodeRegister(self.info, WIRE_VERSION)))
        held = self.leasing.bundles.report_held()
        if held:
            self.outbox.append((HEAD, BundlesHeld(held)))

    def head_restarted(self) -> None:
        """Another head has taken the place of the one that we knew, and nothing sent to that one will arrive."""
        forget_promises(self.leasing)
        self.join()
        self.outbox.extend(first_words(self.node, self.gone_lately, self.leasing, self.borrowing))
        self.metrics.head_restarted()
        self._last_report = -self.heartbeat_s

    def handle(self, src: Address, messages: Sequence[Message]) -> None:
        """Messages from a process of this node, another raylet or the head. Unknown kinds are ignored."""
        for msg in messages:
            handler = self.handlers.get(type(msg))
            if handler is not None:
                handler(src, msg)

    def handle_bulk(self, node: int, messages: Sequence[Message]) -> None:
        """Messages of a bulk link, but for the pieces of objects: the shell places those, and tells `Pulls.advance`."""
        pulls = self.store.pulls
        for msg in messages:
            if type(msg) is Pull:
                self.store.on_pull(node, msg)
            elif type(msg) is PullFailed:
                pulls.on_pull_failed(node, msg)
            elif type(msg) is PullBusy:
                pulls.on_pull_busy(node, msg)

    def _is_running(self, number: int) -> bool:
        """Whether the process runs a task at the moment: it will let go of its arguments by itself."""
        proc = self.leasing.procs.get(number)
        return proc is not None and proc.lease is not None and not proc.lease.actor and not proc.blocked

    def _describe(self, number: int) -> str:
        proc = self.leasing.procs.get(number)
        return f"{proc.kind} pid {proc.pid}" if proc is not None else f"process {number}"

    # -------------------------------------------------------------- processes of this node

    def driver_joined(self, pid: int, job: bytes) -> Proc:
        """A driver has connected."""
        proc = self.leasing.new_proc("driver")
        proc.pid, proc.job = pid, job
        self._tell_driver(proc, "DRIVER_JOINED", "has connected")
        return proc

    def _tell_driver(self, proc: Proc, kind: EventKind, what: str) -> None:
        """One that is no guest."""
        if proc.job:
            ident = str(Address(self.node, proc.proc))
            self.events.note(kind, f"driver {ident} (pid {proc.pid}) {what}", ident)

    def env_failed(self, env: Env, why: str) -> None:
        """A runtime environment cannot be made here."""
        self.events.note("ENVIRONMENT_FAILED", f"a runtime environment cannot be made on node {self.node}: {why}")
        self.leasing.env_failed(env, why)

    def worker_joined(self, number: int, pid: int, path: str) -> Proc | None:
        """A worker has connected; None if it was not expected."""
        proc = self.leasing.procs.get(number)
        if proc is None or proc.state != "starting":
            return None
        proc.pid, proc.path = pid, path
        self.leasing.worker_ready(proc)
        return proc

    def process_gone(
        self, number: int, why: str, task: bytes = b"", attempt: int = 0, cause: LostCause = "crash"
    ) -> None:
        """A process of this node has ended, or has left. Its memory is a matter of its own (`memory_gone`)."""
        proc = self.leasing.procs.get(number)
        if proc is None:
            return
        addr = Address(self.node, number)
        self.borrowing.proc_gone(number)
        self.metrics.process_gone(number)
        self.bulletins.process_gone(number, proc.exit_why or why)
        if proc.kind == "driver":
            self.leasing.procs.pop(number, None)
            self._tell_driver(proc, "DRIVER_LEFT", f"has left: {proc.exit_why or why}")
        else:
            self.metrics.count(WORKERS_ENDED, ("cause", proc.exit_cause or cause))
            self.events.worker_gone(proc, why, cause)
            self.leasing.worker_gone(proc, why, task, attempt, cause)
        gone = ProcessGone(addr, proc.exit_why or why)
        self._process_gone(gone)
        if proc.exposed or proc.kind == "driver":
            self.outbox.append((HEAD, gone))
            self.gone_lately.add(gone, self.now)

    def memory_gone(self, number: int) -> None:
        """A process and all that inherited its socket have ended: nobody looks at its memory any more."""
        self.store.proc_gone(number)

    def _process_gone(self, msg: ProcessGone) -> None:
        """An owner somewhere has ended: free what was its, tell the processes here. Said again it changes nothing."""
        if msg.addr in self.borrowing.dead_owners:
            # A request of its that came late may have been granted since.
            self.leasing.owner_gone(msg.addr)
            return
        held = self.borrowing.owner_gone(msg.addr)
        self.events.owner_lost(msg.addr, sum(any(self._outlives(each, msg.addr) for each in procs) for procs in held))
        self.store.owner_gone(msg.addr)
        self.leasing.owner_gone(msg.addr)
        self._tell_processes(msg)

    def _tell_processes(self, msg: Message) -> None:
        for proc in self.leasing.procs.values():
            if proc.state != "starting":
                self.outbox.append((Address(self.node, proc.proc), msg))

    def _outlives(self, number: int, owner: Address) -> bool:
        """Whether a process of this node goes on without that one."""
        proc = self.leasing.procs.get(number)
        return proc is not None and proc.driver != owner and (proc.lease is None or proc.lease.owner != owner)

    def _on_state_query(self, src: Address, msg: StateQuery) -> None:
        self.outbox.append(
            (src, answer_rows(msg.req, report(self.leasing, self.store, self.reports, msg.what, msg.most)))
        )

    def _on_exiting(self, src: Address, msg: Exiting) -> None:
        proc = self.leasing.procs.get(src.proc)
        if proc is not None and (msg.intended or not proc.exit_cause):
            drains: LostCause | Literal[""] = "drained" if self.leasing.closing.why else ""
            proc.exit_cause, proc.exit_why = "exit" if msg.intended else drains, msg.why

    def _on_told_to_end(self, src: Address, msg: ToldToEnd) -> None:
        """Somebody wants a worker to end. Not where the raylet was told the same: then a scheduler takes the node, and
        the launcher decides."""
        proc = self.leasing.procs.get(src.proc)
        if proc is not None and self.now - self.signalled_at > TOGETHER_S:
            proc.doomed, proc.exit_why = True, proc.exit_why or "it was told to end by SIGTERM"
            self.leasing.to_kill.append((proc, proc.exit_why))

    def _on_unroutable(self, src: Address, msg: Unroutable) -> None:
        if msg.dst.proc and (not src.proc or src == msg.dst):  # the shell of this raylet says it in its name
            self._process_gone(ProcessGone(msg.dst, "it is not there any more"))

    # -------------------------------------------------------------- other nodes

    def _on_node_table(self, src: Address, msg: NodeTable) -> None:
        self.registered = True
        self.epoch = msg.epoch
        self.metrics.nodes_changed()
        for info in msg.nodes:
            if info.node == self.node or info.node in self.dead:
                continue
            if not info.alive:
                self.node_died(info.node, info.why)
            elif info.node not in self.nodes:
                self.nodes[info.node] = info
                self.links.append(("dial", info))

    def node_died(self, node: int, why: str, drained: bool = False) -> None:
        """The head says that a node is gone for good."""
        if node in self.dead:
            return
        if node == self.node:
            self.fenced = f"the head declared this node dead: {why}"
            return
        self.dead[node] = why
        self.metrics.nodes_changed()
        info = self.nodes.pop(node, None)
        if info is not None:
            self.links.append(("forget", info))
        self.borrowing.forget_node(node)
        self.store.forget_node(node)
        self.departure.node_died(node)
        owners = [lease.owner for lease in self.leasing.leases.values()] + [owner for owner, _ in self.leasing.demands]
        for owner in dict.fromkeys(owners):
            if owner.node == node:
                self.leasing.owner_gone(owner)
        self._tell_processes(NodeDied(node, why, drained))

    def _on_heartbeat_ack(self, src: Address, msg: HeartbeatAck) -> None:
        self.epoch = msg.epoch
        self.fence.acked(msg.beat)

    def _on_node_time(self, src: Address, msg: NodeTime) -> None:
        closing = self.leasing.closing
        closing.ends_at = None if msg.left_s < 0 else self.now + msg.left_s
        if msg.why and not closing.why:
            draining.begin(self.leasing, msg.why)
        if msg.why and msg.alone:
            self.departure.begin()
        elif msg.why:
            self.departure.give_up()
        self._tell_processes(msg)

    def _on_keep(self, src: Address, msg: Keep) -> None:
        why = self.leasing.closing.refusal or self.fenced
        if why:
            self.outbox.append((src, Kept(msg.ident, why, never=True)))
        else:
            self.store.on_keep(src, msg)

    def has_drained(self) -> bool:
        """Whether the node leaves, and nothing is lost if it ends now: nobody works here, and all values are safe. It
        is said once."""
        if self.said_drained or self.leasing.leases or not self.departure.over or self.store.is_written_to():
            return False
        self.departure.look()
        self.said_drained = self.departure.over
        if self.said_drained:
            self.leave()
        return self.said_drained

    def leave(self, alone: bool = False) -> bool:
        """The node ends: tell the last of what was counted, if others go on; whether they do. ``alone``: they do."""
        others = self.registered and (alone or self.departure.began)
        if others:
            self.metrics.leave(self.now, self.nodes)
        return others

    def ending(self, now: float) -> NodeTime:
        """What a process is told that registers now."""
        closing = self.leasing.closing
        return NodeTime(-1.0 if closing.ends_at is None else max(0.0, closing.ends_at - now), closing.why)

    # -------------------------------------------------------------- time

    def tick(self, now: float) -> float:
        """Heartbeats and delayed reports; returns the time of the next tick."""
        self.now = now
        self.events.tick(now, self.registered)
        next_at = min(self.leasing.tick(now), self.store.tick(now))
        if self.leasing.closing.vacated:
            let_workers_end(self.leasing)
        if self.leasing.closing.timed:
            next_at = min(next_at, draining.recall_late(self.leasing, now))
        if self.departure.began:
            next_at = min(next_at, self.departure.tick(now))
        if not self.registered:
            return next_at
        next_at = min(next_at, self.metrics.tick(now, self.nodes))
        leasing = self.leasing
        free = leasing.reservations.free_for_others() if leasing.reservations.waiting else leasing.resources.free
        due = self._last_report + self.heartbeat_s
        if free != self._last_free or leasing.spent_tickets or leasing.resources.moves != self._last_moves:
            if self._changed_at is None:
                self._changed_at = now
            due = min(due, self._changed_at + REPORT_DELAY_S)
        if leasing.bundles.changed:
            # A process that waits for a bundle waits for this report: few bundles change, so it can be quick.
            if self._bundles_at is None:
                self._bundles_at = now
            due = min(due, self._bundles_at + BUNDLE_DELAY_S)
        if now >= due:
            self._report(now)
            due = now + self.heartbeat_s
        self.fenced = self.fenced or self.fence.why(now)
        return min(next_at, due)

    def _report(self, now: float) -> None:
        leasing = self.leasing
        self._last_free = leasing.reservations.free_for_others()
        self._last_moves = leasing.resources.moves
        self._last_report = now
        self._changed_at = self._bundles_at = None
        workers = sum(1 for p in leasing.procs.values() if p.kind == "worker")
        waiting = sum(d.want for d in leasing.demands.values())
        spent, leasing.spent_tickets = leasing.spent_tickets, []
        bundles, bundle_pieces = leasing.bundles.report_free(), leasing.bundles.report_pieces()
        pieces = leasing.reservations.pieces_for_others()
        beat = self.fence.report(now)
        use = vacancy(leasing)
        keeps = use != "used" and self.store.keeps_some
        beat_of_node = Heartbeat(
            self.node, self._last_free, workers, waiting, spent, bundles, beat, use, keeps, pieces, bundle_pieces
        )
        self.outbox.append((HEAD, beat_of_node))


def _of_the_head(handler: Callable[[Address, Any], None]) -> Callable[[Address, Any], None]:
    return lambda src, msg: handler(src, msg) if src == HEAD else None
