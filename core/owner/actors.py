"""Actors that this process created.

The creator owns an actor as it owns an object: it knows where the actor lives, restarts it, and tells everyone who
asks. An actor's id is the id of an object (its creation), so handles are counted like references. The actor ends when
the last handle is gone. How an actor's callers see it, this process among them, is in `calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpc.core.causes import ActorErrorName, LostCause, is_charged, restarts_actor, uses_restart
from hpc.core.events.kinds import EventKind
from hpc.core.ids import HEAD, SESSION_BYTES, Address, owner_of
from hpc.core.owner.actor_rows import actor_words
from hpc.core.owner.arguments import Arguments
from hpc.core.owner.calls import OutgoingCalls
from hpc.core.owner.ended import EndedActors
from hpc.core.owner.events import OwnerEvents
from hpc.core.owner.leases import Leases
from hpc.core.owner.objects import Objects
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import Fate, LeasedWorker, OwnedActor, Shape
from hpc.core.wire import (
    ERROR,
    INLINE,
    NONE,
    SYSTEM,
    ActorState,
    CreateActor,
    DefineFunction,
    EndActor,
    KillActor,
    KillWorker,
    Message,
    NameRelease,
    Result,
    WatchActor,
    pack_cause,
    system_error,
)

#: Names given back and actors killed that are said again to a head that was restarted, at most.
MAX_RELEASED = 1024
#: What is said of the end of an actor that somebody wanted.
KILLED = "it was killed by hpc.kill()"


class Actors:
    """The owner's side of actors."""

    def __init__(
        self, state: OwnerState, objects: Objects, arguments: Arguments, leases: Leases, calls: OutgoingCalls,
        events: OwnerEvents, ended: EndedActors,
    ) -> None:  # fmt: skip
        self.events, self.ended = events, ended
        self.state, self.objects, self.arguments, self.leases, self.calls = state, objects, arguments, leases, calls
        self.addr, self.send, self.asked = state.addr, state.send, state.asked
        self.entries, self.actors, self.clients = state.entries, state.actors, state.clients
        self.functions, self.known, self.paths = state.functions, state.known, state.paths
        #: Called with the id of an actor about which something has changed or is about to.
        self.changed: Callable[[bytes], None] = lambda actor: None
        self._told_head = 0

    # -------------------------------------------------------------- creating

    def create(self, msg: CreateActor, shape: Shape, restarts: int, holds: Sequence[bytes]) -> OwnedActor:
        """A new actor of ours. The entry of its creation is made here, held once by the first handle."""
        actor = OwnedActor(msg, shape, restarts, holds)
        self.actors[msg.actor] = actor
        self.objects.own(msg.actor)
        self.calls.client(msg.actor)
        self.arguments.take(actor, msg.refs, holds)
        if not actor.unresolved:
            self.place(actor)
        return actor

    def place(self, actor: OwnedActor) -> None:
        """Have a worker leased for an actor whose arguments are there and that has none."""
        if actor.lease is not None or actor.unresolved or actor.state not in ("pending", "restarting"):
            return
        if self.objects.lost_meanwhile(actor):
            return  # a value that it was given is being made again: its coming leads here
        actor.create.values, error = self.arguments.values(actor.create.refs)
        if error is not None:
            self.objects.set_result(actor.create.actor, error)
            self._died(actor, "an argument of its constructor failed", error)
            return
        actor.shape.actors.append(actor)
        self.changed(actor.create.actor)
        self.leases.ask(actor.shape, exactly=True)

    def leased(self, shape: Shape, lease: LeasedWorker) -> None:
        """A worker for one of the shape's actors."""
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
            self.changed(create.actor)
            return
        self.leases.give_back(lease)

    def has_place(self, actor: bytes) -> bool:
        """Whether an actor of ours has a worker: its constructor runs there, or has run."""
        owned = self.actors.get(actor)
        return owned is not None and owned.lease is not None

    def created(self, actor: OwnedActor, result: Result) -> None:
        """The constructor has returned, or failed."""
        if result.kind in (ERROR, SYSTEM):
            self.objects.set_result(actor.create.actor, result)
            self.state.unseen.discard(actor.create.actor)  # its worker has shown it
            self._died(actor, "its constructor failed", result)
            return
        actor.state = "alive"
        if actor.create.actor in self.entries:
            self.objects.set_result(actor.create.actor, result)
        self.announce(actor)
        if actor.ending:
            self._end(actor)

    def announce(self, actor: OwnedActor) -> None:
        """Tell everyone who asked what state the actor is in."""
        self.changed(actor.create.actor)
        state = self._state_of(actor)
        for watcher in actor.watchers:
            self.send(watcher, state)
        self.calls.hear(state)

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
            actor.charged,
            -1 if actor.fate is None else actor.fate.first,
        )

    def on_watch_actor(self, src: Address, msg: WatchActor) -> None:
        actor = self.actors.get(msg.actor)
        if actor is None:
            self.send(src, ActorState(msg.actor, "dead", 0, self.addr, "the actor has ended and was forgotten"))
            return
        actor.watchers[src] = None
        self.send(src, self._state_of(actor))

    # -------------------------------------------------------------- ending

    def object_freed(self, ident: bytes) -> None:
        """Nobody has a handle to this actor any more, if it is one."""
        actor = self.actors.get(ident)
        if actor is None:
            return
        self.changed(ident)
        actor.ending = True
        if actor.state == "dead":
            self.ended.add(self.actors.pop(ident))
        elif actor.state == "alive":
            self._end(actor)
        elif actor.state == "pending" and actor.lease is None:
            self._died(actor, "all handles went out of scope before it was created", None, None)

    def _end(self, actor: OwnedActor) -> None:
        self.send(actor.worker, EndActor(actor.create.actor, actor.incarnation))

    def kill(self, ident: bytes, no_restart: bool) -> None:
        """End an actor by force; it restarts by its policy unless ``no_restart``."""
        actor = self.actors.get(ident)
        if actor is None:
            if ident[:SESSION_BYTES] == self.state.session:
                client = self.clients.get(ident)
                kill = KillActor(ident, no_restart, -1 if client is None else client.incarnation)
                if owner_of(ident) == HEAD and (no_restart or kill.incarnation >= 0):
                    self._tell_head(kill)
                else:
                    self.send(owner_of(ident), kill)
            return
        self.changed(ident)
        if no_restart:
            self._end_by_force(actor, KILLED)
        else:
            self._kill_worker(actor, KILLED)

    def _end_by_force(self, actor: OwnedActor, why: str) -> None:
        actor.restarts = 0
        self._kill_worker(actor, why)
        self._died(actor, why, None, "ACTOR_ENDED")

    def _kill_worker(self, actor: OwnedActor, why: str) -> None:
        if actor.lease is not None:
            actor.why = why
            lease = actor.lease
            self.send(Address(lease.worker.node, 0), KillWorker(lease.worker, lease.ident, why))

    def _tell_head(self, msg: Message) -> None:
        """Have the head do what it may be told twice: another one may take its place before it has."""
        self._told_head += 1
        self.asked[-self._told_head] = msg
        self.asked.pop(MAX_RELEASED - self._told_head, None)
        self.send(HEAD, msg)

    def on_kill_actor(self, src: Address, msg: KillActor) -> None:
        actor = self.actors.get(msg.actor)
        if actor is not None and (msg.no_restart or msg.incarnation in (-1, actor.incarnation)):
            self.kill(msg.actor, msg.no_restart)

    def lost(self, actor: OwnedActor, cause: LostCause, why: str, begun: bool) -> None:
        """The worker that was the actor is gone; its constructor may have ``begun``, or it is known that it had not."""
        self.changed(actor.create.actor)
        actor.lease = None
        if actor.state == "dead":
            return
        final = actor.ending or not restarts_actor(cause)
        if not final and not uses_restart(cause, begun):
            self.place(actor)  # on another worker: nothing of this incarnation has happened yet
        elif actor.restarts and not final:
            actor.charged = is_charged(cause)
            if actor.restarts > 0 and actor.charged:
                actor.restarts -= 1
            actor.incarnation += 1
            actor.state = "restarting"
            actor.why = why
            left = "any number of" if actor.restarts < 0 else str(actor.restarts)
            self._tell(actor, "ACTOR_RESTARTED", f"is made again, {left} times more at most: {why}")
            self.announce(actor)
            self.place(actor)
        else:
            if actor.fate is not None and self.calls.is_cancelled(actor.create.actor):
                why = "its call was cancelled and did not end"
            wanted: EventKind | None = "ACTOR_ENDED" if cause in ("exit", "killed") else "ACTOR_DIED"
            self._died(actor, why, None, None if actor.ending else wanted)

    # -------------------------------------------------------------- living and dying together

    def share_fate(self, idents: Sequence[bytes], names: Sequence[str]) -> Fate:
        """From now on the first of these actors of ours that ends takes the others along. Raises ValueError for one
        that this process did not make."""
        actors = [self.actors.get(ident) for ident in idents]
        if None in actors:
            raise ValueError("actors share a fate in the process that made them, while they live")
        fate = Fate(self.state.new_ids(), idents, names)
        self.objects.own(fate.ident)
        for actor in filter(None, actors):
            actor.fate = fate
        for actor in filter(None, actors):
            if actor.state == "dead" and not fate.over:
                self._fate_over(fate, actor, actor.why, actor.cause)
                self._end_all(fate)
        return fate

    def end_fate(self, fate: Fate, ident: bytes, why: str) -> None:
        """End all that share it, because of one (no id: of none)."""
        if not fate.over:
            self._fate_over(fate, self.actors.get(ident), why, b"")
            self._end_all(fate)

    def part(self, fate: Fate) -> None:
        """Each ends for itself from now on."""
        for ident in fate.actors:
            actor = self.actors.get(ident)
            if actor is not None and actor.state != "dead":
                actor.fate = None

    def _fate_over(self, fate: Fate, first: OwnedActor | None, why: str, cause: bytes) -> None:
        place = -1 if first is None else fate.actors.index(first.create.actor)
        where = f" on node {first.worker.node}" if first is not None and first.worker.node else ""
        fate.end(place, where, why, cause)
        if fate.ident in self.entries:
            self.objects.set_result(fate.ident, Result(INLINE, NONE))

    def _end_all(self, fate: Fate) -> None:
        for ident in fate.actors:
            actor = self.actors.get(ident)
            if actor is not None and actor.state != "dead":
                self.changed(ident)
                self._end_by_force(actor, fate.why)

    # -------------------------------------------------------------- ends

    def unplaced(self, shape: Shape, error: ActorErrorName, why: str) -> None:
        """The shape's actors will never be placed."""
        actors = list(shape.actors)
        shape.actors.clear()
        for actor in actors:
            if actor.state != "dead":
                self.objects.set_result(actor.create.actor, system_error(error, why, actor=actor.create.name))
                actor.error = error
                self._died(actor, why, None)

    def _tell(self, actor: OwnedActor, kind: EventKind, what: str) -> None:
        self.events.note(kind, f"{actor_words(actor)} {what}", actor.worker.node, actor.create.actor)

    def _died(self, actor: OwnedActor, why: str, cause: Result | None, kind: EventKind | None = "ACTOR_DIED") -> None:
        """``kind`` of event that is told of it, if any."""
        if actor.state == "dead":
            return
        ident, fate = actor.create.actor, actor.fate
        if cause is not None:
            actor.cause = pack_cause(cause)
        first = fate is not None and not (fate.over or actor.ending)  # what nobody needs any more leaves in peace
        if fate is not None:
            if first:
                self._fate_over(fate, actor, why, actor.cause)
            if fate.over:
                actor.error, actor.cause, why = "GangError", fate.cause, fate.why
        actor.state, actor.why = "dead", why
        if kind is not None:
            self._tell(actor, kind, f"has ended: {why}")
        if actor.lease is not None and cause is not None:
            lease, actor.lease = actor.lease, None
            lease.actor = None
            self.leases.give_back(lease, retire=True)
        entry = self.entries.get(ident)
        if entry is not None and entry.result is None:
            self.objects.set_result(ident, system_error("ActorDiedError", why, actor=actor.create.name))
        if actor in actor.shape.actors:
            actor.shape.actors.remove(actor)
            self.leases.ask(actor.shape, exactly=True)  # no worker is needed for it any more
        if actor.name:
            self._tell_head(NameRelease(actor.namespace, actor.name, ident))
        self.announce(actor)
        self.objects.let_go_all(actor.holds)
        self.objects.let_go_all(actor.create.refs)
        if entry is None:
            if self.actors.pop(ident, None) is not None:
                self.ended.add(actor)
        elif actor.detached:
            self.objects.let_go(ident)
        if fate is not None and first:
            self._end_all(fate)
