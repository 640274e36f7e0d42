"""Actors: the ones that this process created, and the calls that it makes to any.

The creator owns an actor as it owns an object: it knows where the actor lives, restarts it, and tells everyone who
asks. An actor's id is the id of an object (its creation), so handles are counted like references, and the actor ends
when the last one is gone. Calls carry a sequence number per caller and incarnation; a call that will never be sent
leaves a Skip, so that later ones do not wait for it.

A call is, in turn: *waiting* (its actor is not there: no place in the order), *placed* (it has a number, and waits for
its arguments), *sent*, and *over*, once. When the actor goes away all are waiting again or over; when it is there anew
all take places in the order of their submission. One that is tried again while its actor lives takes no place: it runs
when it arrives. So a placed call waits for calls submitted before it, which have places before it or none, and never in
a circle: what has a place behind it cannot be among its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpc.core.causes import ActorErrorName, LostCause, restarts_actor, uses_restart
from hpc.core.ids import HEAD, SESSION_BYTES, Address, owner_of
from hpc.core.owner.lineage import ACTOR_GONE, CIRCLE, LineageTable
from hpc.core.owner.objects import OTHER_SESSION
from hpc.core.owner.runs import CallRuns
from hpc.core.owner.state import Sender
from hpc.core.owner.tables import ActorClient, CallRec, Entry, Lease, OwnedActor, Shape, TaskRec
from hpc.core.owner.tasks import BATCH, TASK_BYTES
from hpc.core.passing import passed_on
from hpc.core.wire import (
    ERROR,
    INLINE,
    SYSTEM,
    ActorState,
    Call,
    Cancel,
    CreateActor,
    DefineFunction,
    Done,
    EndActor,
    KillActor,
    KillWorker,
    Message,
    NameRelease,
    Refused,
    Result,
    Skip,
    Unroutable,
    WatchActor,
    pack_cause,
    system_error,
)

#: Names given back and actors killed that are said again to a head that was restarted, at most.
MAX_RELEASED = 1024
#: What is said of the end of an actor that somebody wanted.
KILLED = "it was killed by hpc.kill()"


class ActorSubmitter(LineageTable):
    """The owner's and the caller's side of actors."""

    def __init__(self, addr: Address, job: bytes = b"", idle_lease_s: float = 0.1, send: Sender | None = None) -> None:
        super().__init__(addr, job, idle_lease_s, send)
        self.owned_actors: dict[bytes, OwnedActor] = {}
        self.clients: dict[bytes, ActorClient] = {}
        self.runs = CallRuns(self, self.clients)
        #: what a head that was restarted is told again, in this order: questions without an answer, by their number,
        #: and what needs no answer (names given back, actors killed), by numbers below 0
        self.asked: dict[int, Message] = {}
        self._told_head = 0
        #: The placement groups that this process has made and has handles to.
        self.groups_made: dict[bytes, None] = {}

    # -------------------------------------------------------------- creating (owner)

    def create_actor(self, msg: CreateActor, shape: Shape, restarts: int, holds: Sequence[bytes]) -> OwnedActor:
        """A new actor of ours. The entry of its creation is made here, held once by the first handle."""
        actor = OwnedActor(msg, shape, restarts, holds)
        self.owned_actors[msg.actor] = actor
        self.own(msg.actor)
        self._client(msg.actor)
        self._take_arguments(actor, msg.refs, holds)
        if not actor.unresolved:
            self._place_actor(actor)
        return actor

    def resolved(self, rec: TaskRec | CallRec | OwnedActor) -> None:
        if isinstance(rec, CallRec):
            self._call_resolved(rec)
        elif isinstance(rec, OwnedActor):
            self._place_actor(rec)
        else:
            super().resolved(rec)

    def _place_actor(self, actor: OwnedActor) -> None:
        if actor.state == "dead":
            return
        actor.create.values, error = self.argument_values(actor.create.refs)
        if error is not None:
            self.set_result(actor.create.actor, error)
            self._actor_died(actor, "an argument of its constructor failed", error)
            return
        actor.shape.actors.append(actor)
        self._ask(actor.shape, exactly=True)

    def actor_leased(self, shape: Shape, lease: Lease) -> None:
        while shape.actors:
            actor = shape.actors.popleft()
            if actor.state == "dead":
                continue
            lease.actor, actor.lease = actor, lease
            actor.worker, actor.path = lease.worker, self.paths.get(lease.worker, "")
            create = actor.create
            create.lease, create.incarnation = lease.ident, actor.incarnation
            if create.fn not in self.known[lease.worker]:
                self.known[lease.worker].add(create.fn)
                self.send(lease.worker, DefineFunction(create.fn, self.functions[create.fn]), urgent=False)
            self.send(lease.worker, create)
            return
        self.return_lease(lease)

    def _created(self, actor: OwnedActor, result: Result) -> None:
        """The constructor has returned, or failed."""
        if result.kind in (ERROR, SYSTEM):
            self.set_result(actor.create.actor, result)
            self._actor_died(actor, "its constructor failed", result)
            return
        actor.state = "alive"
        if actor.create.actor in self.objects:
            self.set_result(actor.create.actor, result)
        self._announce(actor)
        if actor.ending:
            self._end_actor(actor)

    def _announce(self, actor: OwnedActor) -> None:
        state = self._state_of(actor)
        for watcher in actor.watchers:
            self.send(watcher, state)
        self._actor_state(state)

    def _state_of(self, actor: OwnedActor) -> ActorState:
        return ActorState(
            actor.create.actor,
            actor.state,
            actor.incarnation,
            actor.worker,
            actor.why,
            actor.path,
            actor.cause,
            actor.error,
        )

    def on_watch_actor(self, src: Address, msg: WatchActor) -> None:
        actor = self.owned_actors.get(msg.actor)
        if actor is None:
            self.send(src, ActorState(msg.actor, "dead", 0, self.addr, "the actor has ended and was forgotten"))
            return
        actor.watchers[src] = None
        self.send(src, self._state_of(actor))

    # -------------------------------------------------------------- ending (owner)

    def object_freed(self, entry: Entry) -> None:
        super().object_freed(entry)
        actor = self.owned_actors.get(entry.ident)
        if actor is None:
            return
        actor.ending = True
        if actor.state == "dead":
            del self.owned_actors[entry.ident]
        elif actor.state == "alive":
            self._end_actor(actor)
        elif actor.state == "pending" and actor.lease is None:
            self._actor_died(actor, "all handles went out of scope before it was created", None)

    def object_forgotten(self, ident: bytes) -> None:
        client = self.clients.get(ident)
        if client is not None and client.state == "dead" and not client.calls:
            del self.clients[ident]  # a living actor's stays: its calls are numbered on if a handle comes again

    def _end_actor(self, actor: OwnedActor) -> None:
        self.send(actor.worker, EndActor(actor.create.actor, actor.incarnation))

    def kill_actor(self, ident: bytes, no_restart: bool) -> None:
        """End an actor by force; it restarts by its policy unless ``no_restart``."""
        actor = self.owned_actors.get(ident)
        if actor is None:
            if ident[:SESSION_BYTES] == self.state.session:
                client = self.clients.get(ident)
                kill = KillActor(ident, no_restart, -1 if client is None else client.incarnation)
                if owner_of(ident) == HEAD and (no_restart or kill.incarnation >= 0):
                    self._tell_head(kill)
                else:
                    self.send(owner_of(ident), kill)
            return
        if no_restart:
            actor.restarts = 0
        if actor.lease is not None:
            actor.why = KILLED
            lease = actor.lease
            self.send(Address(lease.worker.node, 0), KillWorker(lease.worker, lease.ident, actor.why))
        if no_restart:
            self._actor_died(actor, KILLED, None)

    def _tell_head(self, msg: Message) -> None:
        """Have the head do what it may be told twice: another one may take its place before it has."""
        self._told_head += 1
        self.asked[-self._told_head] = msg
        self.asked.pop(MAX_RELEASED - self._told_head, None)
        self.send(HEAD, msg)

    def on_kill_actor(self, src: Address, msg: KillActor) -> None:
        actor = self.owned_actors.get(msg.actor)
        if actor is not None and (msg.no_restart or msg.incarnation in (-1, actor.incarnation)):
            self.kill_actor(msg.actor, msg.no_restart)

    def actor_lost(self, actor: OwnedActor, cause: LostCause, why: str, begun: bool) -> None:
        actor.lease = None
        if actor.state == "dead":
            return
        final = actor.ending or not restarts_actor(cause)
        if not final and not uses_restart(cause, begun):
            self._place_actor(actor)  # on another worker: nothing of this incarnation has happened yet
        elif actor.restarts and not final:
            if actor.restarts > 0:
                actor.restarts -= 1
            actor.incarnation += 1
            actor.state = "restarting"
            actor.why = why
            self._announce(actor)
            self._place_actor(actor)
        else:
            self._actor_died(actor, why, None)

    def actors_unplaced(self, shape: Shape, error: ActorErrorName, why: str) -> None:
        actors = list(shape.actors)
        shape.actors.clear()
        for actor in actors:
            if actor.state != "dead":
                self.set_result(actor.create.actor, system_error(error, why, actor=actor.create.name))
                actor.error = error
                self._actor_died(actor, why, None)

    def _actor_died(self, actor: OwnedActor, why: str, cause: Result | None) -> None:
        if actor.state == "dead":
            return
        ident = actor.create.actor
        actor.state, actor.why = "dead", why
        if cause is not None:
            actor.cause = pack_cause(cause)
        if actor.lease is not None and cause is not None:
            lease, actor.lease = actor.lease, None
            lease.actor = None
            self.return_lease(lease, retire=True)
        entry = self.objects.get(ident)
        if entry is not None and entry.result is None:
            self.set_result(ident, system_error("ActorDiedError", why, actor=actor.create.name))
        if actor in actor.shape.actors:
            actor.shape.actors.remove(actor)
            self._ask(actor.shape, exactly=True)  # no worker is needed for it any more
        if actor.name:
            self._tell_head(NameRelease(actor.namespace, actor.name, ident))
        self._announce(actor)
        self.let_go_all(actor.holds)
        self.let_go_all(actor.create.refs)
        if entry is None:
            self.owned_actors.pop(ident, None)
        elif actor.detached:
            self.let_go(ident)

    # -------------------------------------------------------------- calling

    def _client(self, actor: bytes) -> ActorClient:
        client = self.clients.get(actor)
        if client is None:
            client = self.clients[actor] = ActorClient(actor)
            owner = owner_of(actor)
            if actor[:SESSION_BYTES] != self.state.session:
                client.state, client.why = "dead", OTHER_SESSION
            elif owner == self.addr:
                owned = self.owned_actors.get(actor)
                client.state = "pending" if owned is not None else "dead"
            elif owner in self.gone or owner.node in self.gone_nodes:
                client.state, client.why = "dead", "the process that created it has died"
            else:
                self.send(owner, WatchActor(actor))
        return client

    def submit_call(self, msg: Call, retries: int, holds: Sequence[bytes], parent: bytes = b"") -> None:
        """A call of ours to an actor; the entries of its return values are made here, each held once."""
        client = self.clients.get(msg.actor)
        if client is None:
            client = self._client(msg.actor)
        if client.runs:
            self.runs.unfold(client)  # all runs are behind all other calls
        size = len(msg.args) + TASK_BYTES
        task = msg.task
        rec = self.calls[task] = CallRec(msg, client, retries, holds, size, parent)
        self.pending_bytes += size
        if msg.num_returns == 1:
            self.objects[task] = Entry(task, True, 1, True)
        else:
            self.own_returns(task, msg.num_returns, msg.window)
        if not client.calls:
            self.hold(msg.actor)  # once for all calls that are not finished
        if msg.refs or holds:
            self._take_arguments(rec, msg.refs, holds)
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
                    self._call_resolved(rec)
                else:
                    self._send_call(client, rec)
        elif client.state == "dead":
            self._fail_call(rec, self._dead_error(client))
        elif not rec.unresolved and msg.refs:
            self._call_resolved(rec)

    def pending_calls(self, actor: bytes) -> int:
        """How many calls of this process to the actor are not finished."""
        client = self.clients.get(actor)
        return len(client.calls) + self.runs.pending(client) if client is not None else 0

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
            self._send_call(client, rec)
        elif not rec.unresolved and not self._objects.lost_meanwhile(rec):
            self._call_resolved(rec)

    def _call_resolved(self, rec: CallRec) -> None:
        if rec.msg.task not in self.calls:
            return
        rec.msg.values, error = self.argument_values(rec.msg.refs)
        if error is not None:
            self._fail_call(rec, passed_on(error, rec.msg.method))
        elif rec.numbered and not rec.sent:
            self._send_call(rec.client, rec)

    def _send_call(self, client: ActorClient, rec: CallRec) -> None:
        worker = client.worker
        box = self.outbox.get(worker)
        if box is None:
            box = self.outbox[worker] = []
        box.append(rec.msg)
        rec.sent = True
        if not client.inflight or len(box) >= BATCH:
            self.urgent[worker] = None
        client.inflight += 1

    def on_done(self, src: Address, msg: Done) -> None:
        task = self.tasks.get(msg.task)
        if task is not None and task.msg.attempt == msg.attempt:
            self.task_done(src, task, msg)
            return
        rec = self.calls.get(msg.task)
        if rec is None:
            owned = self.owned_actors.get(msg.task)
            if owned is None and self.runs.ended_alone(src, msg.task):
                self.on_done(src, msg)
            elif owned is None:
                super().on_done(src, msg)
            elif owned.incarnation == msg.attempt and owned.state != "dead":
                self._created(owned, msg.results[0])
            return
        if rec.msg.attempt != msg.attempt:
            self._discard(src, msg)
            return
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
            and not (result.inner or sent.refs or rec.holds)
        ):  # fmt: skip
            # All that is to be done for most calls.
            del self.calls[msg.task]
            client.calls.pop(msg.task, None)
            # Before the value is told: calls that end because of it look for themselves.
            last = not client.calls and not client.runs
            self.pending_bytes -= rec.size
            self.set_result(msg.task, result, True)
            if last:
                self.let_go(client.actor)
        else:
            self._finish_call(rec, results, src)

    def _resend(self, rec: CallRec) -> None:
        """The same call again, as a new attempt. It takes no place: calls that have one may wait for what it gives."""
        if rec.retries > 0:
            rec.retries -= 1
        rec.msg.attempt += 1
        rec.msg.seq = -1
        rec.sent = False
        if rec.client.state == "alive":
            self._send_if_resolved(rec.client, rec)

    def _finish_call(self, rec: CallRec, results: list[Result], src: Address) -> None:
        task = rec.msg.task
        del self.calls[task]
        rec.client.calls.pop(task, None)
        last = not rec.client.calls and not rec.client.runs
        self.pending_bytes -= rec.size
        if rec.msg.num_returns < 0:
            results = self.checked(rec, results)
        again = self.origins.get(task) if self.origins else None
        if again is None:
            self.remember(rec, results)
        lost = self.lost_items(rec)
        self.set_results(rec, results, src)
        if rec.holds:
            self.let_go_all(rec.holds)
        if rec.msg.refs:
            self.let_go_all(rec.msg.refs)
        if again is not None:
            self.rebuilt(again, results[0])
        else:
            self.remembered(task)
        if last:
            self.let_go(rec.msg.actor)
        self.seek(lost)

    def no_call_again(self, rec: CallRec, reader: Address | None) -> tuple[str, str] | None:
        client = rec.client
        if client.state == "dead" or client.actor not in self.objects or self.clients.get(client.actor) is not client:
            return ACTOR_GONE, f"the actor whose {rec.msg.method} made it has ended"
        if client.state == "alive" and client.worker == reader:
            return CIRCLE, f"the actor whose {rec.msg.method} made it needs it now: it would wait for itself"
        return None

    def call_again(self, rec: CallRec) -> None:
        """A finished call is made again. Like one that is tried again it takes no place among the others."""
        client, msg = rec.client, rec.msg
        if rec.retries > 0:
            rec.retries -= 1
        msg.attempt += 1
        msg.seq, msg.window = -1, 0
        rec.sent = rec.numbered = False
        self.runs.unfold(client)
        self.calls[msg.task] = rec
        self.pending_bytes += rec.size
        if not client.calls:
            self.hold(client.actor)
        self._take_arguments(rec, msg.refs, rec.holds)
        client.calls[msg.task] = rec
        if client.state == "alive":
            self._number(client, rec)
            self._send_if_resolved(client, rec)
        elif msg.refs and not rec.unresolved:
            self._call_resolved(rec)

    def _fail_call(self, rec: CallRec, error: Result) -> None:
        client = rec.client
        if rec.numbered and not rec.sent and client.state == "alive" and rec.msg.seq >= 0:
            self.send(client.worker, Skip(client.actor, client.incarnation, rec.msg.seq, rec.msg.group))
        if rec.sent:
            client.inflight -= 1
        self._finish_call(rec, [error] * max(1, rec.msg.num_returns), self.addr)

    def cancel(self, ident: bytes, force: bool, recursive: bool) -> bool:
        self.runs.unfold_call(ident)
        rec = self.calls.get(self.maker_of(ident))
        if rec is None:
            return super().cancel(ident, force, recursive)
        if force:
            raise ValueError("force=True would end the actor: use hpc.kill() for that, or cancel without force")
        rec.cancelled = True
        if not rec.sent:
            self._fail_call(rec, system_error("TaskCancelledError", "it was cancelled before it started"))
        else:
            self.send(rec.client.worker, Cancel(rec.msg.task, rec.msg.attempt, False, recursive))
        return True

    def cancel_children(self, parent: bytes) -> None:
        super().cancel_children(parent)
        self.runs.unfold_children(parent)
        for task in [t for t, rec in self.calls.items() if rec.parent == parent]:
            self.cancel(task, False, True)

    def on_refused(self, src: Address, msg: Refused) -> None:
        """The worker does not host the actor (any more); its owner will say what became of it."""

    # -------------------------------------------------------------- where actors are

    def _dead_error(self, client: ActorClient) -> Result:
        if client.cause:
            self.unseen.discard(client.actor)  # whoever gets the value of a call gets that error
            why = "its constructor failed, or could not be called"
            return system_error("ActorDiedError", why, actor=client.actor.hex(), cause=client.cause)
        if client.state == "restarting":
            why = f"{client.why}; it is being restarted, and this call, which may have begun, is not retried"
            return system_error("ActorUnavailableError", why, actor=client.actor.hex())
        return system_error(client.error, client.why, actor=client.actor.hex())

    def on_actor_state(self, src: Address, msg: ActorState) -> None:
        if msg.actor in self.clients:
            self._actor_state(msg)

    def _actor_state(self, msg: ActorState) -> None:
        client = self.clients.get(msg.actor)
        if client is None or client.state == "dead":
            return
        if msg.state == "alive":
            self._actor_alive(client, msg)
            return
        client.state, client.why, client.cause, client.error = msg.state, msg.why, msg.cause, msg.error
        if msg.state in ("restarting", "dead"):
            self._actor_away(client)

    def _actor_alive(self, client: ActorClient, msg: ActorState) -> None:
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

    def _actor_away(self, client: ActorClient) -> None:
        """The actor is dead or being restarted: calls that may have started fail unless they can be retried."""
        self.runs.unfold(client)
        if client.worker != HEAD:  # an actor that had no worker yet
            self.outbox.pop(client.worker, None)
        final = client.state == "dead"
        error = self._dead_error(client)
        over: list[CallRec] = []
        for rec in client.calls.values():
            if final or rec.cancelled or (rec.sent and not rec.retries):
                over.append(rec)
            elif rec.sent and rec.retries > 0:
                rec.retries -= 1
            rec.msg.attempt += 1
            rec.numbered = rec.sent = False
        client.inflight = 0
        # All are waiting before the first is over: the value of one may be an argument of another. The last ones go
        # first, so that each ends with the actor's death and not with an argument's.
        for rec in reversed(over):
            if rec.msg.task in self.calls:
                outcome = system_error("TaskCancelledError", "it was cancelled") if rec.cancelled else error
                self._finish_call(rec, [outcome] * max(1, rec.msg.num_returns), self.addr)

    def forget_process(self, addr: Address) -> None:
        super().forget_process(addr)
        for client in list(self.clients.values()):
            if owner_of(client.actor) == addr and client.state != "dead":
                client.state, client.why = "dead", f"the process that created it ({addr}) has died"
                self._actor_away(client)

    def forget_node(self, node: int, why: str) -> None:
        super().forget_node(node, why)
        for client in list(self.clients.values()):
            owner = owner_of(client.actor)
            if owner.node == node and client.state != "dead":
                client.state, client.why = "dead", f"the node of its owner has died: {why}"
                self._actor_away(client)

    def on_unroutable(self, src: Address, msg: Unroutable) -> None:
        """A frame of ours could not be delivered: whatever its owner was, it is gone."""
        if msg.dst.proc:
            self.forget_process(msg.dst)
