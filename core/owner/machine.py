"""The owner's machine: every message that a driver or worker receives as an owner, and what follows from it.

``handle(src, messages)`` changes the state. It leaves what is to be done in ``outbox`` (messages per destination),
``urgent`` (destinations to send to now) and ``woken`` (waiters that can go on). Objects in ``unpinned`` and views in
``unviewed`` are memory to let go: `Pins.let_go` says so to the raylet, ahead of the next sending. There is no I/O,
clock or thread in here; the shell (`client.Client`) and the simulator drive it alike.

The machine has parts, each with a file of its own, over one state; a part knows those that were made before it. Where
several parts must hear of one event, the part in which it happens says so. *The order* in which they hear is written
here and nowhere else: `done`, `ended`, `object_freed`, `lease_lost`, `process_gone`, `node_gone` and others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hpc.core.causes import LostCause, is_charged
from hpc.core.ids import HEAD, Address, owner_of, raylet_of
from hpc.core.owner.actors import Actors
from hpc.core.owner.arguments import Arguments
from hpc.core.owner.calls import OutgoingCalls
from hpc.core.owner.channels import Channels
from hpc.core.owner.departures import Departures
from hpc.core.owner.ended import EndedActors
from hpc.core.owner.events import OwnerEvents
from hpc.core.owner.groups import GroupHandles
from hpc.core.owner.leases import Leases
from hpc.core.owner.lineage import Lineage
from hpc.core.owner.objects import Objects
from hpc.core.owner.pins import Pins
from hpc.core.owner.places import Places
from hpc.core.owner.state import OwnerState, Sender
from hpc.core.owner.streams import ItemStreams
from hpc.core.owner.tables import CallRec, Entry, LeasedWorker, OwnedActor, TaskRec
from hpc.core.owner.tasks import Tasks
from hpc.core.owner.withdraw import Withdraw
from hpc.core.wire import (
    STORED,
    ActorState,
    Answer,
    AskSealed,
    BorrowAcked,
    Call,
    CallRefused,
    CallsDone,
    CancelObject,
    ChannelData,
    ChannelEnd,
    ChannelOpen,
    ChannelTaken,
    CopyLost,
    CreateActor,
    Done,
    Fetched,
    FetchedAll,
    FreeValues,
    GetObject,
    GivenBack,
    HeadHolds,
    HeadRestarted,
    HoldAdd,
    HoldDrop,
    KillActor,
    KillWorker,
    LeaseFailed,
    LeaseGrant,
    LeaseInfeasible,
    LeaseLost,
    LeaseReclaim,
    Leaving,
    Locate,
    LocationAdded,
    Message,
    NodeDied,
    ObjectMissing,
    ObjectValue,
    PgState,
    PgWarning,
    PleaseUnpin,
    ProcessGone,
    Release,
    Result,
    Skip,
    Task,
    Unroutable,
    WatchActor,
    Yielded,
    system_error,
)


class OwnerMachine:
    """All that an owner knows and decides."""

    def __init__(self, addr: Address, job: bytes = b"", idle_lease_s: float = 0.1, send: Sender | None = None) -> None:
        state = self.state = OwnerState(addr, job, send)
        self.events = events = OwnerEvents(state)
        self.ended_actors = ended_actors = EndedActors(state)
        objects = Objects(state, self.object_freed, self.object_forgotten, self.value_lost, self.resolved)
        streams = ItemStreams(state, objects)
        arguments = Arguments(state, objects)
        leases = Leases(
            state,
            idle_lease_s,
            fail=lambda rec, error: tasks.fail(rec, error),
            leased=lambda shape, lease: actors.leased(shape, lease),
            unplaced=lambda shape, error, why: actors.unplaced(shape, error, why),
            lost=self.lease_lost,
        )
        tasks = Tasks(state, objects, streams, arguments, leases, self.ended, events)
        withdraw = Withdraw(state, leases, tasks)
        calls = OutgoingCalls(state, objects, streams, arguments, self.ended, self.done)
        lineage = Lineage(state, objects, streams, tasks, calls, events)
        actors = Actors(state, objects, arguments, leases, calls, events, ended_actors)
        groups = GroupHandles(state, objects, withdraw)
        #: The parts, in the order in which they know each other.
        self.objects, self.streams, self.arguments, self.leases, self.tasks = objects, streams, arguments, leases, tasks
        self.withdraw, self.calls, self.lineage, self.actors, self.groups = withdraw, calls, lineage, actors, groups
        self.pins = pins = Pins(state)
        self.places = Places(state)
        self.departures = Departures(state, lineage)
        self.channels = channels = Channels(state)
        #: Called when a process is known to be gone: the shell may be waiting for an answer of its.
        self.on_gone: Callable[[Address], None] = lambda addr: None

        # What a shell drives the machine by. All else is said to a part, `machine.tasks.submit`, or read in a table of
        # the state, `machine.state.tasks`.
        self.addr, self.raylet, self.enter, self.new_ids = addr, state.raylet, state.enter, state.new_ids
        self.outbox, self.urgent, self.woken, self.unpinned = state.outbox, state.urgent, state.woken, state.unpinned
        self.send, self.box, self.take_outbox, self.dropped = state.send, state.box, state.take_outbox, state.dropped

        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            ActorState: calls.on_actor_state,
            BorrowAcked: objects.on_borrow_acked,
            CallsDone: calls.runs.on_calls_done,
            CancelObject: self._on_cancel_object,
            ChannelData: channels.on_data,
            ChannelEnd: channels.on_end,
            ChannelOpen: channels.on_open,
            ChannelTaken: channels.on_taken,
            CopyLost: lineage.on_copy_lost,
            Done: self.done,
            Fetched: pins.on_fetched,
            FetchedAll: pins.on_fetched_all,
            FreeValues: lineage.on_free_values,
            GetObject: objects.on_get_object,
            GivenBack: leases.on_given_back,
            HeadHolds: objects.on_head_holds,
            HeadRestarted: self._on_head_restarted,
            HoldAdd: objects.on_hold_add,
            HoldDrop: objects.on_hold_drop,
            KillActor: actors.on_kill_actor,
            Leaving: self.departures.on_leaving,
            LeaseFailed: leases.on_lease_failed,
            LeaseGrant: leases.on_lease_grant,
            LeaseInfeasible: leases.on_lease_infeasible,
            LeaseLost: leases.on_lease_lost,
            LeaseReclaim: leases.on_lease_reclaim,
            Locate: self.places.on_locate,
            LocationAdded: lambda src, m: objects.on_location_added(m.ident, m.node),
            NodeDied: self._on_node_died,
            ObjectMissing: objects.on_object_missing,
            ObjectValue: objects.on_object_value,
            PgState: groups.on_state,
            PgWarning: lambda src, m: state.warnings.append(m.why),
            AskSealed: pins.on_ask_sealed,
            PleaseUnpin: pins.on_please_unpin,
            ProcessGone: self._on_process_gone,
            CallRefused: calls.on_refused,
            Release: objects.on_release,
            Unroutable: self._on_unroutable,
            WatchActor: actors.on_watch_actor,
            Yielded: streams.on_yielded,
        }

    def handle(self, src: Address, messages: Sequence[Message]) -> list[Message]:
        """Take the messages of one frame; those that are not for an owner are returned, in order."""
        handlers = self.handlers
        others: list[Message] = []
        for msg in messages:
            handler = handlers.get(type(msg))
            if handler is None:
                others.append(msg)
            else:
                handler(src, msg)
        if self.state.dirty:
            self.leases.settle()
        return others

    def _on_node_died(self, src: Address, msg: NodeDied) -> None:
        if self._is_believed(src):
            self.node_gone(msg.node, msg.why, "drained" if msg.drained else "node")

    def _on_process_gone(self, src: Address, msg: ProcessGone) -> None:
        if self._is_believed(src):
            self.process_gone(msg.addr)

    def _is_believed(self, src: Address) -> bool:
        """Whether a death is news of the runtime. Any process of the session can send any message."""
        return src in (self.raylet, HEAD)

    def tick(self, now: float) -> float:
        """What is due by time. Returns the time of the next tick."""
        self.events.tick(now)
        self.ended_actors.tick(now)
        self.withdraw.tick()
        self.pins.tick(now)
        return self.leases.tick(now)

    def is_needed(self) -> bool:
        """Whether others hold what this process owns or work for it, or an answer waits for their word. Then it does
        not end if it can help it."""
        state = self.state
        if state.tasks or state.calls or self.calls.runs.unfinished or state.leases or state.handed_over:
            return True
        return any((entry.owned and entry.nodes) or entry.on_ack for entry in state.entries.values())

    # -------------------------------------------------------------- the order: tasks, calls, actors

    def resolved(self, rec: TaskRec | CallRec | OwnedActor) -> None:
        """All references among the arguments have values."""
        if isinstance(rec, TaskRec):
            self.tasks.resolved(rec)
        elif isinstance(rec, CallRec):
            self.calls.resolved(rec)
        else:
            self.actors.place(rec)

    def done(self, src: Address, msg: Done) -> None:
        """A task of ours has ended, or a call, or the constructor of an actor, or what nobody waits for any more."""
        task = self.state.tasks.get(msg.task)
        if task is not None and task.msg.attempt == msg.attempt:
            self.tasks.done(src, task, msg)
            return
        call = self.state.calls.get(msg.task)
        if call is not None and call.msg.attempt == msg.attempt:
            self.calls.done(src, call, msg)
            return
        actor = self.state.actors.get(msg.task)
        if actor is not None and call is None:
            if actor.incarnation == msg.attempt and actor.state != "dead":
                self.actors.created(actor, msg.results[0])
        elif call is None and self.calls.runs.ended_alone(src, msg.task):
            self.done(src, msg)
        else:
            self.streams.discard_all(src, msg)

    def ended(self, rec: TaskRec | CallRec, results: list[Result], src: Address) -> list[bytes]:
        """A task or call is over, and no longer in its table. First the way to make its values again is noted, then the
        values are told, then its arguments are let go. Returns the items of a generator that have to be made again."""
        msg = rec.msg
        if msg.num_returns < 0:
            results = self.streams.checked(rec, results)
        origin = self.state.origins.get(msg.task)
        several = msg.num_returns < 0 or len(results) > 1 or (len(results) == 1 and results[0].kind == STORED)
        lost: list[bytes] = []
        if origin is None and several:
            self.lineage.remember(rec, results)
            lost = self.streams.lost_items(rec)
        self.streams.set_results(rec, results, src)
        if rec.holds:
            self.objects.let_go_all(rec.holds)
        if msg.refs:
            self.objects.let_go_all(msg.refs)
        if origin is not None:
            self.lineage.rebuilt(origin, results[0])
        elif several:
            self.lineage.remembered(msg.task)
        return lost

    def lease_lost(self, lease: LeasedWorker, running: bytes | None, cause: LostCause, why: str) -> None:
        """The worker of a lease is gone (see `Leases.lose`), and an actor with it, or tasks on their way to it."""
        if lease.actor is None:
            self.tasks.lease_lost(lease, running, cause, why)
        else:
            self.actors.lost(lease.actor, cause, why, running in (None, lease.actor.create.actor))

    def cancel(self, ident: bytes, force: bool, recursive: bool) -> bool:
        """Cancel the task or call that makes this object; False if it is none of ours that is still unfinished. Raises
        ValueError for ``force`` with a call."""
        self.calls.runs.unfold_call(ident)
        maker = self.streams.maker_of(ident)
        if (call := self.state.calls.get(maker)) is not None:
            self.calls.cancel(call, force, recursive)
        elif (task := self.state.tasks.get(maker)) is not None:
            self.withdraw.cancel(task, force, recursive)
        else:
            return False
        return True

    def cancel_children(self, parent: bytes) -> None:
        """Cancel what a task or call of this process has submitted and is not finished, and their children."""
        self.withdraw.cancel_children(parent)
        self.calls.cancel_children(parent)

    def _on_cancel_object(self, src: Address, msg: CancelObject) -> None:
        """Another process wants the task or call cancelled that makes an object of ours."""
        why = ""
        try:
            self.cancel(msg.ident, msg.force, msg.recursive)
        except ValueError as error:
            why = str(error)
        if msg.req:
            self.send(src, Answer(msg.req, not why, why=why))

    # -------------------------------------------------------------- the order: objects

    def object_freed(self, ident: bytes) -> None:
        """Nobody holds this object of ours any more: a generator ends, its origin may be forgotten, an actor ends."""
        if self.state.streams:
            self.streams.object_freed(ident)
        self.lineage.object_freed(ident)
        if ident in self.state.actors:
            self.actors.object_freed(ident)

    def object_forgotten(self, ident: bytes) -> None:
        """Nobody here holds the object any more, whoever owns it, and `object_freed` is over."""
        if ident in self.state.clients:
            self.calls.object_forgotten(ident)

    def value_lost(self, entry: Entry, why: str) -> None:
        """No copy of the value of an object of ours is left: it is made again, or it is an error."""
        self.lineage.all_copies_lost(entry, why)

    # -------------------------------------------------------------- the order: deaths

    def process_gone(self, addr: Address) -> None:
        """A process is gone. Questions to it have no answer, then what it owned is lost. Then the actors that it
        created are lost, with the calls to them, then channels to it."""
        self.state.gone.add(addr)
        self.outbox.pop(addr, None)
        self.on_gone(addr)
        self.objects.process_gone(addr)
        self.calls.process_gone(addr)
        self.channels.process_gone(addr)

    def node_gone(self, node: int, why: str, cause: LostCause = "node") -> None:
        """A node is gone. First its workers are lost, then its processes, its copies and its holds. Then demands that
        may have been forwarded to it are asked anew. Last are the actors whose owner was there, and channels to
        there."""
        self.state.gone_nodes[node] = why
        self.leases.node_gone(node, why, cause)
        for addr in self.objects.met_on(node):
            self.process_gone(addr)
        self.lineage.charged = is_charged(cause)
        self.objects.node_gone(node)
        self.lineage.charged = True
        self.leases.ask_all_anew()
        self.calls.node_gone(node, why)
        self.channels.node_gone(node, why)

    def _on_unroutable(self, src: Address, msg: Unroutable) -> None:
        """A frame of ours could not be delivered: whatever its owner was, it is gone. Raylets say so."""
        if msg.dst.proc and not src.proc:
            self.process_gone(msg.dst)

    def _on_head_restarted(self, src: Address, msg: HeadRestarted) -> None:
        """Questions that have no answer yet are asked again, in their order; so are names given back again."""
        for question in self.state.asked.values():
            self.send(HEAD, question)
        self.calls.head_restarted()
        for entry in self.state.entries.values():
            if entry.asked and entry.result is None and owner_of(entry.ident) == HEAD:
                self.send(HEAD, GetObject(entry.ident))
        self.groups.head_restarted()

    # -------------------------------------------------------------- what the shell could not send or understand

    def refuse(self, msg: Task | Call | CreateActor, why: str) -> Message | None:
        """The shell could not send this: it has failed, as if its worker had said so. Returns what to send instead."""
        error = [system_error("HpcError", why)]
        if isinstance(msg, CreateActor):
            self.done(self.addr, Done(msg.actor, msg.incarnation, error))
        else:
            self.done(self.addr, Done(msg.task, msg.attempt, error))
        return Skip(msg.actor, msg.incarnation, msg.seq, msg.group) if isinstance(msg, Call) and msg.seq >= 0 else None

    def cut_off(self, peer: Address, why: str) -> None:
        """What a process said cannot be understood: it counts as gone, and is ended where it works for us."""
        for lease in self.state.leases.values():
            if lease.worker == peer:
                self.send(raylet_of(peer.node), KillWorker(peer, lease.ident, f"its owner cut the connection: {why}"))
        self.process_gone(peer)
