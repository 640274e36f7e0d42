"""The owner's machine: every message that a driver or worker receives as an owner, and what follows from it.

``handle(src, messages)`` changes the state and leaves what is to be done in ``outbox`` (messages per destination),
``urgent`` (destinations to send to now), ``woken`` (waiters that can go on) and ``unpinned`` (memory to let go).
There is no I/O, clock or thread in here; the shell (`client.Client`) and the simulator drive it alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hpc.core.ids import HEAD, Address, owner_of, raylet_of
from hpc.core.owner.actors import ActorSubmitter
from hpc.core.owner.state import Sender
from hpc.core.wire import (
    GROUP_CREATED,
    GROUP_REMOVED,
    INLINE,
    NONE,
    ActorState,
    Answer,
    BorrowAcked,
    Call,
    CallsDone,
    CancelObject,
    CopyLost,
    CreateActor,
    Done,
    FreeValues,
    GetObject,
    GivenBack,
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
    LocationAdded,
    Message,
    NodeDied,
    ObjectMissing,
    ObjectValue,
    PgState,
    PgWait,
    PgWarning,
    ProcessGone,
    Refused,
    Release,
    Result,
    Skip,
    Task,
    Unroutable,
    WatchActor,
    Yielded,
    system_error,
)

#: So many groups are remembered before the dropped ones among them are looked for.
MANY_GROUPS = 1024


class OwnerMachine(ActorSubmitter):
    """All that an owner knows and decides."""

    def __init__(self, addr: Address, job: bytes = b"", idle_lease_s: float = 0.1, send: Sender | None = None) -> None:
        super().__init__(addr, job, idle_lease_s, send)
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            ActorState: self.on_actor_state,
            BorrowAcked: self._objects.on_borrow_acked,
            CallsDone: self.runs.on_calls_done,
            CancelObject: self._on_cancel_object,
            CopyLost: self.on_copy_lost,
            Done: self.on_done,
            FreeValues: self.on_free_values,
            GetObject: self._objects.on_get_object,
            GivenBack: self.on_given_back,
            HeadRestarted: self._on_head_restarted,
            HoldAdd: self._objects.on_hold_add,
            HoldDrop: self._objects.on_hold_drop,
            KillActor: self.on_kill_actor,
            LeaseFailed: self.on_lease_failed,
            LeaseGrant: self.on_lease_grant,
            LeaseInfeasible: self.on_lease_infeasible,
            LeaseLost: self.on_lease_lost,
            LeaseReclaim: self.on_lease_reclaim,
            LocationAdded: lambda src, m: self._objects.on_location_added(m.ident, m.node),
            NodeDied: lambda src, m: self.forget_node(m.node, m.why),
            ObjectMissing: self._objects.on_object_missing,
            ObjectValue: self._objects.on_object_value,
            PgState: lambda src, m: self.on_group_state(m.group, m.state, m.why),
            PgWarning: lambda src, m: self.warnings.append(m.why),
            ProcessGone: lambda src, m: self.forget_process(m.addr),
            Refused: self.on_refused,
            Release: self._objects.on_release,
            Unroutable: self.on_unroutable,
            WatchActor: self.on_watch_actor,
            Yielded: self._streams.on_yielded,
        }

    def _on_head_restarted(self, src: Address, msg: HeadRestarted) -> None:
        """Questions that have no answer yet are asked again, in their order; so are names given back again."""
        for question in self.asked.values():
            self.send(HEAD, question)
        self.groups_made = {group: None for group in self.groups_made if group in self.objects}
        for client in self.clients.values():
            if owner_of(client.actor) == HEAD and client.state != "dead":
                self.send(HEAD, WatchActor(client.actor))
        for entry in self.objects.values():
            if entry.asked and entry.result is None and owner_of(entry.ident) == HEAD:
                self.send(HEAD, GetObject(entry.ident))
        for group in self.groups_made:
            self.send(HEAD, PgWait(0, group))  # the news of its state may have ended with the other head

    def _on_cancel_object(self, src: Address, msg: CancelObject) -> None:
        """Another process wants the task or call cancelled that makes an object of ours."""
        why = ""
        try:
            self.cancel(msg.ident, msg.force, msg.recursive)
        except ValueError as error:
            why = str(error)
        if msg.req:
            self.send(src, Answer(msg.req, not why, why=why))

    def is_needed(self) -> bool:
        """Whether others hold what this process owns or work for it, or an answer waits for their word: it does not
        end then if it can help it."""
        if self.tasks or self.calls or self.runs.unfinished or self.leases or self.handed_over:
            return True
        return any((entry.owned and entry.nodes) or entry.on_ack for entry in self.objects.values())

    def make_group(self) -> bytes:
        """The id of a new placement group, and an object of that id, held once."""
        if len(self.groups_made) >= MANY_GROUPS:
            self.groups_made = {group: None for group in self.groups_made if group in self.objects}
        ident = self.new_ids()
        self.own(ident)
        self.groups_made[ident] = None
        return ident

    def on_group_state(self, group: bytes, state: str, why: str) -> None:
        """A placement group that this process made is an object of ours: it has a value while all is reserved."""
        if state == GROUP_REMOVED:
            self.group_gone(group, why)
        entry = self.objects.get(group)
        if entry is None:
            return
        if state == GROUP_CREATED:
            self.set_result(group, Result(INLINE, NONE))
        elif state == GROUP_REMOVED:
            self.groups_made.pop(group, None)
            self.set_result(group, system_error("TaskPlacementGroupRemoved", why))
        else:
            entry.result = None

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
        if self._dirty:
            self.settle()
        return others

    def refuse(self, msg: Task | Call | CreateActor, why: str) -> Message | None:
        """The shell could not send this: it has failed, as if its worker had said so. Returns what to send instead."""
        error = [system_error("HpcError", why)]
        if isinstance(msg, CreateActor):
            self.on_done(self.addr, Done(msg.actor, msg.incarnation, error))
        else:
            self.on_done(self.addr, Done(msg.task, msg.attempt, error))
        return Skip(msg.actor, msg.incarnation, msg.seq, msg.group) if isinstance(msg, Call) and msg.seq >= 0 else None

    def cut_off(self, peer: Address, why: str) -> None:
        """What a process said cannot be understood: it counts as gone, and is ended where it works for us."""
        for lease in self.leases.values():
            if lease.worker == peer:
                self.send(raylet_of(peer.node), KillWorker(peer, lease.ident, f"its owner cut the connection: {why}"))
        self.forget_process(peer)
