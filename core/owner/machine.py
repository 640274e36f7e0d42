"""The owner's machine: every message that a driver or worker receives as an owner, and what follows from it.

``handle(src, messages)`` changes the state and leaves what is to be done in ``outbox`` (messages per destination),
``urgent`` (destinations to send to now), ``woken`` (waiters that can go on) and ``unpinned`` (memory to let go).
There is no I/O, clock or thread in here; the shell (`client.Client`) and the simulator drive it alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hpc.core.ids import HEAD, Address
from hpc.core.owner.actors import ActorSubmitter
from hpc.core.wire import (
    ActorState,
    BorrowAcked,
    CopyLost,
    Done,
    FreeValues,
    GetObject,
    GivenBack,
    HeadRestarted,
    HoldAdd,
    HoldDrop,
    KillActor,
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
    PgWarning,
    ProcessGone,
    Refused,
    Release,
    Unroutable,
    WatchActor,
    Yielded,
)


class OwnerMachine(ActorSubmitter):
    """All that an owner knows and decides."""

    def __init__(self, addr: Address, job: bytes = b"", idle_lease_s: float = 0.1) -> None:
        super().__init__(addr, job, idle_lease_s)
        self.handlers: dict[type, Callable[[Address, Any], None]] = {
            ActorState: self.on_actor_state,
            BorrowAcked: self.on_borrow_acked,
            CopyLost: self.on_copy_lost,
            Done: self.on_done,
            FreeValues: self.on_free_values,
            GetObject: self.on_get_object,
            GivenBack: self.on_given_back,
            HeadRestarted: self._on_head_restarted,
            HoldAdd: self.on_hold_add,
            HoldDrop: self.on_hold_drop,
            KillActor: self.on_kill_actor,
            LeaseFailed: self.on_lease_failed,
            LeaseGrant: self.on_lease_grant,
            LeaseInfeasible: self.on_lease_infeasible,
            LeaseLost: self.on_lease_lost,
            LeaseReclaim: self.on_lease_reclaim,
            LocationAdded: lambda src, m: self.on_location_added(m.ident, m.node),
            NodeDied: lambda src, m: self.forget_node(m.node, m.why),
            ObjectMissing: self.on_object_missing,
            ObjectValue: self.on_object_value,
            PgWarning: lambda src, m: self.warnings.append(m.why),
            ProcessGone: lambda src, m: self.forget_process(m.addr),
            Refused: self.on_refused,
            Release: self.on_release,
            Unroutable: self.on_unroutable,
            WatchActor: self.on_watch_actor,
            Yielded: self.on_yielded,
        }

    def _on_head_restarted(self, src: Address, msg: HeadRestarted) -> None:
        """Questions that have no answer yet are asked again, in their order; so are names given back again."""
        for question in self.asked.values():
            self.send(HEAD, question)

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

    def take_outbox(self, everything: bool = False) -> list[tuple[Address, list[Message]]]:
        """What is to be sent now: to the urgent destinations, or to all."""
        outbox = self.outbox
        if everything:
            out = [(dst, msgs) for dst, msgs in outbox.items() if msgs]
            outbox.clear()
        else:
            out = [(dst, msgs) for dst in self.urgent if (msgs := outbox.pop(dst, None))]
        self.urgent.clear()
        return out
