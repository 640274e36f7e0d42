"""Calls that this process makes to actors, whoever created them.

Calls carry a sequence number per caller and incarnation. A call that will never be sent leaves a Skip, so that later
calls do not wait for it.

A call goes through four states. It is *waiting* while its actor is not there: it has no place in the order. It is
*placed* once it has a number, and waits for its arguments. Then it is *sent*, and at last it is *over*, once. When the
actor goes away all are waiting again or over; when it is there anew all take places in the order of their submission.
One that is tried again while its actor lives takes no place: it runs when it arrives. So a placed call waits only for
calls that were submitted before it, which have places before it or none. It never waits in a circle: a call that has a
place behind it cannot be among its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpc.core.ids import HEAD, SESSION_BYTES, Address, owner_of
from hpc.core.owner.arguments import Arguments
from hpc.core.owner.leases import BATCH
from hpc.core.owner.objects import OTHER_SESSION, Objects
from hpc.core.owner.runs import CallRuns
from hpc.core.owner.state import OwnerState
from hpc.core.owner.streams import ItemStreams
from hpc.core.owner.tables import ActorClient, CallRec, Entry, TaskRec
from hpc.core.owner.tasks import TASK_BYTES
from hpc.core.passing import passed_on
from hpc.core.wire import (
    INLINE,
    ActorState,
    Call,
    CallRefused,
    Cancel,
    Done,
    Result,
    Skip,
    WatchActor,
    system_error,
)

#: Why the calls of an actor cannot be made again where it has ended: Ray has no name for that.
ACTOR_GONE = "ACTOR_DIED"


class OutgoingCalls:
    """The caller's side of actors. It says ``ended`` when a call is over with these results, as `Tasks` does. It says
    ``done`` when an answer came for a call of a run that is not made in a run any more."""

    def __init__(
        self,
        state: OwnerState,
        objects: Objects,
        streams: ItemStreams,
        arguments: Arguments,
        ended: Callable[[TaskRec | CallRec, list[Result], Address], list[bytes]],
        done: Callable[[Address, Done], None],
    ) -> None:
        self.state, self.objects, self.streams, self.arguments = state, objects, streams, arguments
        self.addr, self.send, self.outbox, self.urgent = state.addr, state.send, state.outbox, state.urgent
        self.entries, self.calls, self.clients, self.actors = state.entries, state.calls, state.clients, state.actors
        self.gone, self.gone_nodes, self.unseen, self.paths = state.gone, state.gone_nodes, state.unseen, state.paths
        self.origins, self.ended = state.origins, ended
        self.runs = CallRuns(state, objects, done)

    # -------------------------------------------------------------- calling

    def client(self, actor: bytes) -> ActorClient:
        """What this process knows of an actor as its caller; its owner is asked where it is at the first time."""
        client = self.clients.get(actor)
        if client is None:
            client = self.clients[actor] = ActorClient(actor)
            owner = owner_of(actor)
            if actor[:SESSION_BYTES] != self.state.session:
                client.state, client.why = "dead", OTHER_SESSION
            elif owner == self.addr:
                owned = self.actors.get(actor)
                client.state = "pending" if owned is not None else "dead"
            elif owner in self.gone or owner.node in self.gone_nodes:
                client.state, client.why = "dead", "the process that created it has died"
            else:
                self.send(owner, WatchActor(actor))
        return client

    def submit(self, msg: Call, retries: int, holds: Sequence[bytes], parent: bytes = b"") -> None:
        """A call of ours to an actor; the entries of its return values are made here, each held once."""
        client = self.clients.get(msg.actor)
        if client is None:
            client = self.client(msg.actor)
        if client.runs:
            self.runs.unfold(client)  # all runs are behind all other calls
        size = len(msg.args) + TASK_BYTES
        task = msg.task
        rec = self.calls[task] = CallRec(msg, client, retries, holds, size, parent)
        self.state.pending_bytes += size
        if msg.num_returns == 1:
            self.entries[task] = Entry(task, True, 1)
        else:
            self.streams.own_returns(task, msg.num_returns, msg.window)
        if not client.calls:
            # Once for all calls that are not finished; nearly always it is held by a handle already.
            if (handle := self.entries.get(msg.actor)) is not None:
                handle.count += 1
            else:
                self.objects.hold(msg.actor)
        if msg.refs or holds:
            self.arguments.take(rec, msg.refs, holds)
        client.calls[task] = rec
        if client.state == "alive":
            if msg.seq < 0 or msg.group:
                self._number(client, rec)
            else:  # what that does for nearly all calls, without calling it
                msg.incarnation = client.incarnation
                msg.seq = client.seq
                client.seq += 1
                rec.numbered = True
            if not rec.unresolved:
                if msg.refs:
                    self.resolved(rec)
                else:
                    self._send(client, rec)
        elif client.state == "dead":
            self.unseen.discard(client.actor)  # who gets the value of the call gets the error of the constructor
            self._fail(rec, self.dead_error(client))
        elif not rec.unresolved and msg.refs:
            self.resolved(rec)

    def is_cancelled(self, actor: bytes) -> bool:
        """Whether a call of this process to the actor was cancelled, and has begun and not ended."""
        client = self.clients.get(actor)
        return client is not None and any(rec.cancelled and rec.sent for rec in client.calls.values())

    def pending(self, actor: bytes) -> int:
        """How many calls of this process to the actor are not finished."""
        client = self.clients.get(actor)
        return len(client.calls) + self.runs.pending(client) if client is not None else 0

    def has_begun(self, actor: bytes) -> bool:
        """Whether this process has heard of a process of the actor: before, it sends no call."""
        client = self.clients.get(actor)
        return client is not None and client.incarnation >= 0

    def _number(self, client: ActorClient, rec: CallRec) -> None:
        msg = rec.msg
        msg.incarnation = client.incarnation
        rec.numbered = True
        if msg.seq < 0:
            return  # no order was asked for
        if msg.group:
            msg.seq = client.groups.get(msg.group, 0)
            client.groups[msg.group] = msg.seq + 1
        else:
            msg.seq = client.seq
            client.seq += 1

    def _send_if_resolved(self, client: ActorClient, rec: CallRec) -> None:
        """Send a call that has its place, unless arguments are missing; values may have been lost since they came."""
        if not rec.msg.refs:
            self._send(client, rec)
        elif not rec.unresolved and not self.objects.lost_meanwhile(rec):
            self.resolved(rec)

    def resolved(self, rec: CallRec) -> None:
        """All references among the call's arguments have values."""
        if rec.msg.task not in self.calls:
            return
        rec.msg.values, error = self.arguments.values(rec.msg.refs)
        if error is not None:
            self._fail(rec, passed_on(error, rec.msg.method))
        elif rec.numbered and not rec.sent:
            self._send(rec.client, rec)

    def _send(self, client: ActorClient, rec: CallRec) -> None:
        worker = client.worker
        box = self.outbox.get(worker)
        if box is None:
            box = self.outbox[worker] = []
        box.append(rec.msg)
        rec.sent = True
        if not client.inflight or len(box) >= BATCH:
            self.urgent[worker] = None
        client.inflight += 1

    def done(self, src: Address, rec: CallRec, msg: Done) -> None:
        """A call of ours has ended; what it gave is its value, or it is tried again."""
        client = rec.client
        client.inflight -= 1
        if self.outbox.get(client.worker):
            self.urgent[client.worker] = None
        if msg.retryable and rec.retries and not rec.cancelled:
            self._resend(rec)
            return
        results, sent = msg.results, rec.msg
        if (
            sent.num_returns == 1 and (result := results[0]).kind == INLINE
            and not (result.inner or sent.refs or rec.holds or msg.task in self.origins)
        ):  # fmt: skip
            # All that is to be done for most calls.
            del self.calls[msg.task]
            client.calls.pop(msg.task, None)
            # Before the value is told: calls that end because of it look for themselves.
            last = not client.calls and not client.runs
            self.state.pending_bytes -= rec.size
            self.objects.set_result(msg.task, result, True)
            if last:
                self.objects.let_go(client.actor)
        else:
            self._finish(rec, results, src)

    def _resend(self, rec: CallRec) -> None:
        """The same call again, as a new attempt. It takes no place: calls that have one may wait for what it gives."""
        if rec.retries > 0:
            rec.retries -= 1
        rec.msg.attempt += 1
        rec.msg.ran += 1
        rec.msg.seq = -1
        rec.sent = False
        if rec.client.state == "alive":
            self._send_if_resolved(rec.client, rec)

    def _finish(self, rec: CallRec, results: list[Result], src: Address) -> None:
        client, task = rec.client, rec.msg.task
        del self.calls[task]
        client.calls.pop(task, None)
        last = not client.calls and not client.runs
        self.state.pending_bytes -= rec.size
        lost = self.ended(rec, results, src)
        if last:
            self.objects.let_go(client.actor)
        self.streams.seek(lost)

    def no_again(self, rec: CallRec) -> tuple[str, str] | None:
        """Why a finished call cannot be made again, as (reason, text)."""
        client = rec.client
        if client.state == "dead" or client.actor not in self.entries or self.clients.get(client.actor) is not client:
            return ACTOR_GONE, f"the actor whose {rec.msg.method} made it has ended"
        return None

    def again(self, rec: CallRec, charged: bool = True) -> None:
        """A finished call is made again. Like one that is tried again it takes no place among the others."""
        client, msg = rec.client, rec.msg
        if charged and rec.retries > 0:
            rec.retries -= 1
        msg.attempt += 1
        msg.ran += 1
        msg.seq, msg.window = -1, 0
        rec.sent = rec.numbered = False
        self.runs.unfold(client)
        self.calls[msg.task] = rec
        self.state.pending_bytes += rec.size
        if not client.calls:
            self.objects.hold(client.actor)
        self.arguments.take(rec, msg.refs, rec.holds)
        client.calls[msg.task] = rec
        if client.state == "alive":
            self._number(client, rec)
            self._send_if_resolved(client, rec)
        elif msg.refs and not rec.unresolved:
            self.resolved(rec)

    def _fail(self, rec: CallRec, error: Result) -> None:
        client = rec.client
        if rec.numbered and not rec.sent and client.state == "alive" and rec.msg.seq >= 0:
            self.send(client.worker, Skip(client.actor, client.incarnation, rec.msg.seq, rec.msg.group))
        if rec.sent:
            client.inflight -= 1
        self._finish(rec, [error] * max(1, rec.msg.num_returns), self.addr)

    def cancel(self, rec: CallRec, force: bool, recursive: bool) -> None:
        """Cancel an unfinished call. Raises ValueError for ``force``."""
        if force:
            raise ValueError("force=True would end the actor: use hpc.kill() for that, or cancel without force")
        rec.cancelled = True
        if not rec.sent:
            self._fail(rec, system_error("TaskCancelledError", "it was cancelled before it started"))
        else:
            self.send(rec.client.worker, Cancel(rec.msg.task, rec.msg.attempt, False, recursive))

    def cancel_children(self, parent: bytes) -> None:
        """Cancel the calls that a task or call of this process has made and that are not finished."""
        self.runs.unfold_children(parent)
        for rec in [rec for rec in self.calls.values() if rec.parent == parent]:
            if self.calls.get(rec.msg.task) is rec:  # it has not ended because another one did
                self.cancel(rec, False, True)

    def on_refused(self, src: Address, msg: CallRefused) -> None:
        """The worker does not host the actor (any more); its owner will say what became of it."""

    # -------------------------------------------------------------- where actors are

    def head_restarted(self) -> None:
        """The new head does not know that we want to hear of the actors that it owns."""
        for client in self.clients.values():
            if owner_of(client.actor) == HEAD and client.state != "dead":
                self.send(HEAD, WatchActor(client.actor))

    def dead_error(self, client: ActorClient) -> Result:
        """What the calls get that an actor will not answer any more."""
        if client.error == "GangError":
            more = {"cause": client.cause} if client.cause else {}
            return system_error(client.error, client.why, rank=client.rank, **more)
        if client.cause:
            why = "its constructor failed, or could not be called"
            return system_error("ActorDiedError", why, actor=client.actor.hex(), cause=client.cause)
        if client.state == "restarting":
            why = f"{client.why}; it is being restarted, and this call, which may have begun, is not retried"
            return system_error("ActorUnavailableError", why, actor=client.actor.hex())
        return system_error(client.error, client.why, actor=client.actor.hex())

    def on_actor_state(self, src: Address, msg: ActorState) -> None:
        if msg.actor in self.clients:
            self.hear(msg)

    def hear(self, msg: ActorState) -> None:
        """The owner of an actor, which may be this process, says what state it is in."""
        client = self.clients.get(msg.actor)
        if client is None or client.state == "dead":
            return
        if msg.state == "alive":
            self._alive(client, msg)
            return
        client.state, client.why, client.cause, client.error = msg.state, msg.why, msg.cause, msg.error
        client.rank = msg.rank
        if msg.state in ("restarting", "dead"):
            self._away(client, msg.charged)

    def _alive(self, client: ActorClient, msg: ActorState) -> None:
        if client.state == "alive" and client.incarnation == msg.incarnation:
            return
        self.runs.unfold(client)
        client.state, client.incarnation, client.worker = "alive", msg.incarnation, msg.worker
        client.seq, client.inflight = 0, 0
        client.groups.clear()
        if msg.path and msg.worker.node == self.addr.node:
            self.paths[msg.worker] = msg.path
        for rec in list(client.calls.values()):
            self._number(client, rec)
            self._send_if_resolved(client, rec)
        if self.outbox.get(client.worker):
            self.urgent[client.worker] = None

    def _away(self, client: ActorClient, charged: bool = True) -> None:
        """The actor is dead or being restarted: calls that may have started fail unless they can be retried."""
        self.runs.unfold(client)
        if client.worker != HEAD:  # an actor that had no worker yet
            self.outbox.pop(client.worker, None)
        untold = self.streams.untold
        sent = [rec for rec in client.calls.values() if rec.sent]
        self.objects.disown([ident for rec in sent for ident in untold(rec.msg)], client.worker)
        final = client.state == "dead"
        error = self.dead_error(client)
        over: list[CallRec] = []
        for rec in client.calls.values():
            if final or rec.cancelled or (rec.sent and not rec.retries):
                over.append(rec)
            elif rec.sent and rec.retries > 0 and charged:
                rec.retries -= 1
            rec.msg.attempt += 1
            rec.msg.ran += rec.sent
            rec.numbered = rec.sent = False
        client.inflight = 0
        if over:
            self.unseen.discard(client.actor)
        # All are waiting before the first is over: the value of one may be an argument of another. The last ones go
        # first, so that each ends with the actor's death and not with an argument's.
        for rec in reversed(over):
            if rec.msg.task in self.calls:
                outcome = system_error("TaskCancelledError", "it was cancelled") if rec.cancelled else error
                self._finish(rec, [outcome] * max(1, rec.msg.num_returns), self.addr)

    def process_gone(self, addr: Address) -> None:
        """A process is gone, and the actors with it that it created."""
        for client in list(self.clients.values()):
            if owner_of(client.actor) == addr and client.state != "dead":
                client.state, client.why = "dead", f"the process that created it ({addr}) has died"
                self._away(client)

    def node_gone(self, node: int, why: str) -> None:
        """A node is gone, and with it the actors whose owner was there."""
        for client in list(self.clients.values()):
            owner = owner_of(client.actor)
            if owner.node == node and client.state != "dead":
                client.state, client.why = "dead", f"the node of its owner has died: {why}"
                self._away(client)

    def object_forgotten(self, ident: bytes) -> None:
        """Nobody here holds this object any more: if it is an actor that is dead, what is known of it goes too."""
        client = self.clients.get(ident)
        if client is not None and client.state == "dead" and not client.calls:
            del self.clients[ident]  # a living actor's stays: its calls are numbered on if a handle comes again
