"""The owner of the actors that outlive their creators: a part of the head.

An actor is owned by a process: it leases the worker, restarts it, and tells everyone who asks where it is. Those that
shall outlive whoever made them are owned by the head, with the machine that any process has (`owner/machine`); its id
says so. What it must not forget it writes into the head's journal before anybody hears of it. A head that takes the
place of another finds its actors alive. Each raylet says which workers it keeps for the head, and what does not agree
is mended. So no process can be killed, and no node but the head's can be lost, whose end takes these actors along.

What an actor is made from lasts as long as the actor may be made again (`inherited`). An id is promised to the process
that asks for one. It is kept for one actor, which is made once, however often a process asks. A process that ends
before it has said what to make leaves nothing.

Rejected: a worker as the owner (when it is killed they all end), and then a second one that knows the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from hpc.core.head.inherited import Inherited
from hpc.core.ids import HEAD, HEAD_NODE, Address, owner_of, raylet_of
from hpc.core.net.frames import answer_rows
from hpc.core.owner.actors import KILLED
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.report import report
from hpc.core.owner.tables import LeasedWorker, OwnedActor, Shape
from hpc.core.raylet.borrowing import Borrowing
from hpc.core.wire import (
    INLINE,
    NONE,
    STORED,
    ActorState,
    Answer,
    BorrowAdd,
    BorrowDrop,
    DefineFunction,
    HeadHolds,
    HeadLeases,
    HoldAcked,
    KeepActor,
    KillActor,
    LeaseBegin,
    LeaseGrant,
    LeaseInfeasible,
    LeaseRequest,
    LeaseReturn,
    Message,
    NameRelease,
    NewActor,
    PgWarning,
    Result,
    StateQuery,
    Unroutable,
    WatchActor,
)

#: The arguments of detached actors, all together, with the code of the next; one more is refused.
MAX_KEPT_BYTES = 256 << 20
#: Kinds of rows in the journal: the state of an actor, code, ids that are promised, what actors are made from, and the
#: values of references among that.
_ACTOR, _CODE, _PROMISE, _SPEC, _VALUES = b"a", b"c", b"p", b"s", b"v"
#: Rows that are written together are written in this order, and then those that are gone in the reverse one. A head
#: that is killed amidst them leaves the first ones: an actor has then what it is made from, or is promised still.
_ORDER = (_CODE, _SPEC, _VALUES, _ACTOR, _PROMISE)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(KeepActor).decode


class DetachedActors:
    """The pure part of a head that owns actors. ``nodes`` gives the numbers of the nodes that take work, ``to_head``
    takes what this owner says to the head itself. ``never_made`` is told of actors that may have a name, and that
    nobody will make."""

    def __init__(
        self,
        forward: list[tuple[Address, Message]],
        nodes: Callable[[], Iterable[int]],
        to_head: Callable[[Message], None],
        never_made: Callable[[Sequence[bytes]], None],
    ) -> None:
        self.owner = OwnerMachine(HEAD, send=self._send)
        self.owner.actors.changed = self._on_change
        self.owner.ended_actors.keeps = True
        self._forward = forward
        self._nodes = nodes
        self._to_head = to_head
        self._never_made = never_made
        self._home = 0
        self._homeless = False
        self._borrowing = Borrowing(HEAD_NODE)
        self._kept: dict[bytes, KeepActor] = {}
        self._kept_bytes = 0
        self._inherited = Inherited(self.owner, forward)
        #: Ids of actors that are still to be made, with the process that asked for each and the number of its question.
        #: Others may wait for one already: it can be found when it has a name.
        self._promised: dict[bytes, tuple[Address, int]] = {}
        self._early: dict[bytes, dict[Address, None]] = {}
        self._shapes: dict[bytes, Shape] = {}
        #: Rows of the journal, by kind and actor, until the head begins.
        self._loaded: dict[bytes, dict[bytes, Any]] = {_ACTOR: {}, _SPEC: {}, _VALUES: {}}
        self._changed: dict[bytes, None] = {}
        own = dict(self.owner.handlers)
        own[HeadLeases] = self._on_head_leases
        own[HoldAcked] = self._on_hold_acked
        own[KeepActor] = self._on_keep_actor
        own[LeaseGrant] = self._on_lease_grant
        own[LeaseInfeasible] = self._on_lease_infeasible
        own[StateQuery] = lambda src, msg: self._send(src, answer_rows(msg.req, report(self.owner, msg.what, msg.most)))
        own[NewActor] = self._on_new_actor
        own[KillActor] = self._on_kill_actor
        own[Unroutable] = self._on_unroutable
        own[WatchActor] = self._on_watch_actor
        self.handlers = {kind: self._settled(handler) for kind, handler in own.items()}

    def _settled(self, handler: Callable[[Address, Any], None]) -> Callable[[Address, Any], None]:
        def handle(src: Address, msg: Any) -> None:
            handler(src, msg)
            if self.owner.state.dirty:
                self.owner.leases.settle()

        return handle

    # -------------------------------------------------------------- sending

    def _send(self, dst: Address, msg: Message, urgent: bool = True) -> None:
        if dst != HEAD:
            self._forward.append((dst, msg))
        elif isinstance(msg, LeaseRequest):
            self._ask_home(msg)
        elif isinstance(msg, BorrowAdd):
            self._borrowing.on_borrow_add(HEAD, msg)
            self._from_borrowing()
        elif isinstance(msg, BorrowDrop):
            self._borrowing.on_borrow_drop(HEAD, msg)
            self._from_borrowing()
        else:
            self._to_head(msg)

    def _from_borrowing(self) -> None:
        said, self._borrowing.outbox[:] = list(self._borrowing.outbox), []
        for dst, msg in said:
            if dst == HEAD:
                self.handlers[type(msg)](HEAD, msg)
            else:
                self._forward.append((dst, msg))
        self._inherited.owner_gone()

    def _on_hold_acked(self, src: Address, msg: HoldAcked) -> None:
        self._borrowing.on_hold_acked(src, msg)
        self._from_borrowing()

    def _ask_home(self, msg: LeaseRequest) -> None:
        """Have a raylet serve a demand as it serves those of its own processes: one for all, as long as it is there."""
        nodes = list(self._nodes())
        if self._home not in nodes:
            self._home = min(nodes, default=0)
        if self._home:
            self._forward.append((raylet_of(self._home), msg))
        else:
            self._homeless = True

    # -------------------------------------------------------------- what a restarted head must know

    def begin(self, epoch: int, dead_nodes: Mapping[int, str]) -> None:
        """Number ids and requests from this head's own number on, and take over the actors of the one before."""
        self.owner.state.made = epoch << 40
        self.owner.leases.last_request = epoch << 32
        self.owner.state.gone_nodes.update(dead_nodes)
        actors, specs, values = (self._loaded[kind] for kind in (_ACTOR, _SPEC, _VALUES))
        for ident in actors:
            self.owner.objects.own(ident)  # of all, before one holds another
        for ident, row in actors.items():
            self._adopt(ident, _decode(specs[ident]), row, values.get(ident, ()))
        self._clear_half()
        for rows in self._loaded.values():
            rows.clear()

    def _clear_half(self) -> None:
        """The head before may have been killed while it wrote: rows of no actor go, and so do promises that it has
        kept."""
        for ident in [ident for ident in self._promised if ident in self._loaded[_ACTOR]]:
            del self._promised[ident]
            self._changed[_PROMISE + ident] = None
        for kind in (_SPEC, _VALUES):
            self._changed.update((kind + ident, None) for ident in self._loaded[kind] if ident not in self._kept)
        used = {keep.create.fn for keep in self._kept.values()}
        for fn in [fn for fn in self.owner.state.functions if fn not in used]:
            del self.owner.state.functions[fn]
            self._changed[_CODE + fn] = None

    def changes(self) -> Iterator[tuple[bytes, Any]]:
        """Rows of actors that have changed, and the code of new ones."""
        changed, self._changed = self._changed, {}
        rows = [(key, self._row(key[:1], key[1:])) for key in changed]
        yield from sorted(rows, key=lambda row: _place(*row))

    def rows(self) -> Iterator[tuple[bytes, Any]]:
        """All code, all living actors, and those that are still to be made."""
        keys = [_CODE + fn for fn in self.owner.state.functions]
        keys += [_PROMISE + ident for ident in self._promised]
        keys += [kind + ident for ident in self._kept for kind in (_SPEC, _VALUES, _ACTOR)]
        for key in keys:
            row = self._row(key[:1], key[1:])
            if row is not None:
                yield key, row
        for kind, loaded in self._loaded.items():
            yield from ((kind + ident, row) for ident, row in loaded.items())

    def _row(self, kind: bytes, ident: bytes) -> Any:
        if kind == _CODE:
            return self.owner.state.functions.get(ident)
        if kind == _PROMISE:
            promise = self._promised.get(ident)
            return None if promise is None else [*promise[0], promise[1]]
        actor = self.owner.state.actors.get(ident)
        if actor is None or actor.state == "dead" or ident not in self._kept:
            return None
        if kind == _SPEC:
            keep = self._kept[ident]
            plain = msgspec.structs.replace(keep.create, lease=0, incarnation=0, values=())  # as it came
            return _encode(msgspec.structs.replace(keep, create=plain))
        if kind == _VALUES:
            return self._inherited.row(ident)
        lease = actor.lease
        where = [] if lease is None else [lease.ident, *lease.worker, actor.path, lease.instances]
        return [actor.state, actor.incarnation, actor.restarts, actor.why, where]

    def load(self, key: bytes, data: Any) -> None:
        """Take over a row of the journal."""
        kind, ident = key[:1], key[1:]
        table: dict[bytes, Any] = self._loaded.get(kind, {})
        if kind == _CODE:
            table = self.owner.state.functions
        elif kind == _PROMISE:
            table, data = self._promised, None if data is None else (Address(*data[:2]), data[2])
        if data is None:
            table.pop(ident, None)
        else:
            table[ident] = data

    def _adopt(self, ident: bytes, keep: KeepActor, row: Sequence[Any], values: Sequence[Any]) -> None:
        state, incarnation, restarts, why, where = row
        actor = OwnedActor(keep.create, self._shape_of(keep), restarts, keep.create.holds)
        actor.state, actor.incarnation, actor.why = state, incarnation, why
        self.owner.state.actors[ident] = actor
        self._keep(keep, actor)
        if where:
            lease = LeasedWorker(where[0], Address(where[1], where[2]), actor.shape, where[4])
            self.owner.state.leases[lease.ident] = actor.shape.leases[lease.ident] = lease
            self.owner.state.known[lease.worker] = {keep.create.fn}
            lease.actor, actor.lease = actor, lease
            actor.worker, actor.path = lease.worker, where[3]
        if state == "alive":
            self.owner.objects.set_result(ident, Result(INLINE, NONE))
        held = self._inherited.take(ident, values)
        self.owner.arguments.take(actor, keep.create.refs, keep.create.holds)
        self.owner.objects.let_go_all(held)
        if not actor.unresolved:
            self.owner.actors.place(actor)

    def _on_head_leases(self, src: Address, msg: HeadLeases) -> None:
        """What a raylet keeps for the head, said to one that has taken another's place."""
        self._inherited.tell(src.node)
        held = [ident for ident in self._borrowing.borrowed if owner_of(ident).node == src.node]
        self._send(raylet_of(src.node), HeadHolds(held))
        kept = dict(msg.leases)
        for lease in [le for le in self.owner.state.leases.values() if le.worker.node == src.node]:
            if lease.ident not in kept:
                self.owner.leases.lose(lease, None, "crash", "it ended while the head was away")
            elif lease.actor is not None and lease.actor.state in ("pending", "restarting"):
                self._create_again(lease, lease.actor)
        for ident in [ident for ident in kept if ident not in self.owner.state.leases]:
            self._send(raylet_of(src.node), LeaseReturn(ident, retire=True))

    def _create_again(self, lease: LeasedWorker, actor: OwnedActor) -> None:
        """What the other head sent last may not have arrived, or the answer: a worker that has made the actor already
        says so again."""
        shape, create = actor.shape, actor.create
        create.lease, create.incarnation = lease.ident, actor.incarnation
        create.values, error = self.owner.arguments.values(create.refs) if not actor.unresolved else ((), None)
        if actor.unresolved or error is not None:
            # What it needs is not at hand any more: begin anew when it is.
            self.owner.leases.give_back(lease, retire=True)
            lease.actor = actor.lease = None
            self.owner.actors.place(actor)
            return
        self._send(lease.worker, self._begin(lease, shape))
        self._send(lease.worker, DefineFunction(create.fn, self.owner.state.functions[create.fn]))
        self._send(lease.worker, create)

    def _begin(self, lease: LeasedWorker, shape: Shape) -> LeaseBegin:
        group = [shape.strategy[1], shape.strategy[3]] if shape.strategy[0] == "pg" else []
        return LeaseBegin(
            lease.ident, HEAD, lease.instances, shape.job or b"", shape.env, shape.held, group, shape.driver or HEAD
        )

    # -------------------------------------------------------------- making actors

    def _on_new_actor(self, src: Address, msg: NewActor) -> None:
        promise = (src, msg.req)
        ident = next((ident for ident, known in self._promised.items() if known == promise), b"")
        if not ident:
            ident = self.owner.new_ids()
            self._promised[ident] = promise
            self._changed[_PROMISE + ident] = None
        self._send(src, Answer(msg.req, True, ident))

    def break_promises(self, idents: Sequence[bytes], why: str) -> None:
        """No actors of these ids will be made."""
        for ident in idents:
            del self._promised[ident]
            self._changed[_PROMISE + ident] = None
            for watcher in self._early.pop(ident, ()):
                self._send(watcher, ActorState(ident, "dead", 0, HEAD, why))
        self._never_made(idents)

    def name_taken(self, ident: bytes) -> None:
        """Whoever was to make an actor has not got the name for it: then it makes none."""
        if ident in self._promised:
            self.break_promises([ident], "its name was taken")

    def _on_watch_actor(self, src: Address, msg: WatchActor) -> None:
        if msg.actor in self._promised:
            self._early.setdefault(msg.actor, {})[src] = None
            self._send(src, ActorState(msg.actor, "pending", 0, HEAD))
        else:
            self.owner.actors.on_watch_actor(src, msg)

    def _on_kill_actor(self, src: Address, msg: KillActor) -> None:
        if msg.actor in self._promised:
            if msg.no_restart:  # else there is nothing that could be ended, and be made again
                self.break_promises([msg.actor], KILLED)
        else:
            self.owner.actors.on_kill_actor(src, msg)

    def _on_keep_actor(self, src: Address, msg: KeepActor) -> None:
        """Make the actor, and answer once the owners of its arguments know that the head holds them. One that is asked
        for again, and was made before, is not made again: it may have ended since."""
        create = msg.create
        if create.actor in self._promised:
            if self._kept_bytes + self._inherited.size_bytes + _size(msg) > MAX_KEPT_BYTES:
                why = f"the code and arguments of detached actors may take {MAX_KEPT_BYTES >> 20} MiB together"
                self._send(src, Answer(msg.req, False, why=why))
                return
            del self._promised[create.actor]
            self._changed[_PROMISE + create.actor] = None
            self.owner.state.functions[create.fn] = msg.code
            self._changed[_CODE + create.fn] = None
            msg.code = b""
            shape = self._shape_of(msg)
            known = self._learn(msg)
            actor = self.owner.actors.create(create, shape, msg.restarts, create.holds)
            self._keep(msg, actor)
            self.owner.objects.let_go_all(known)
            self._note_values(actor)  # before the answer, as far as they are known
            actor.watchers.update(self._early.pop(create.actor, {}))
            if actor.state == "dead":  # at once, because of an argument: before it had its name
                self._to_head(NameRelease(actor.namespace, actor.name, create.actor))
                self.owner.actors.announce(actor)
                self.owner.objects.let_go(create.actor)
        answer = Answer(msg.req, True)
        self.owner.objects.when_acked([*create.refs, *create.holds], lambda: self._send(src, answer))

    def _learn(self, msg: KeepActor) -> list[bytes]:
        """Values of arguments, and where large ones are, in the words of whoever makes the actor. Their owner may have
        ended before it is asked, and so may this head. Returns those that were told, each of which is held once."""
        known, msg.known = msg.known, {}
        told = [ref for ref, result in known.items() if ref in msg.create.refs and result.kind in (INLINE, STORED)]
        for ref in told:
            if self.owner.objects.hold(ref).result is None:
                self.owner.objects.set_result(ref, known[ref])  # other actors may wait for it
        return told

    def _keep(self, msg: KeepActor, actor: OwnedActor) -> None:
        create = msg.create
        self._kept[create.actor] = msg
        self._kept_bytes += _size(msg)
        actor.name = str(create.options.get("name") or "")
        actor.namespace = str(create.options.get("namespace") or "")
        actor.detached = True
        self._changed[_SPEC + create.actor] = self._changed[_ACTOR + create.actor] = None

    def _shape_of(self, msg: KeepActor) -> Shape:
        key = _encode([msg.held, msg.placement, msg.strategy, msg.env, msg.job, msg.driver])
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(msg.held, msg.placement, msg.strategy, msg.env, True)
            shape.job, shape.driver = msg.job, msg.driver
            self.owner.leases.add_shape(shape)
        return shape

    def _on_lease_grant(self, src: Address, msg: LeaseGrant) -> None:
        if msg.req not in self.owner.state.requests:  # a head before us asked for it
            self._send(raylet_of(msg.worker.node), LeaseReturn(msg.lease, retire=True))
            return
        self.owner.state.paths[msg.worker] = msg.path
        self.owner.leases.on_lease_grant(src, msg)

    def _on_lease_infeasible(self, src: Address, msg: LeaseInfeasible) -> None:
        self.owner.leases.on_lease_infeasible(src, msg)
        warnings, self.owner.state.warnings[:] = list(self.owner.state.warnings), []
        shape = self.owner.state.requests.get(msg.req)
        for why in warnings:
            if shape is not None and shape.driver is not None:
                self._send(shape.driver, PgWarning(b"", why))

    # -------------------------------------------------------------- changes that are written down

    def _on_change(self, ident: bytes) -> None:
        self._changed[_ACTOR + ident] = None
        actor = self.owner.state.actors.get(ident)
        if actor is None:
            return
        if actor.state != "dead":
            if actor.create.values:
                self._note_values(actor)
            return
        self._inherited.forget(ident)
        kept = self._kept.pop(ident, None)
        if kept is not None:
            self._kept_bytes -= _size(kept)
            self._forget_code(kept.create.fn)
            self._changed[_SPEC + ident] = self._changed[_VALUES + ident] = None

    def _note_values(self, actor: OwnedActor) -> None:
        ident = actor.create.actor
        if actor.state != "dead" and self._inherited.note(ident, actor.create.refs):
            self._changed[_VALUES + ident] = None

    def _forget_code(self, fn: bytes) -> None:
        if not any(keep.create.fn == fn for keep in self._kept.values()):
            self.owner.state.functions.pop(fn, None)
            self._changed[_CODE + fn] = None

    # -------------------------------------------------------------- what the head has learnt

    def enter(self, session: str) -> None:
        """The name of the session."""
        self.owner.enter(session)

    def _on_unroutable(self, src: Address, msg: Unroutable) -> None:
        if msg.dst.proc and not src.proc:
            self.process_gone(msg.dst)

    def process_gone(self, addr: Address) -> None:
        """A process is gone."""
        self.owner.process_gone(addr)
        self._borrowing.owner_gone(addr)
        self._from_borrowing()
        unmade = [ident for ident, (asker, _) in self._promised.items() if asker == addr]
        self.break_promises(unmade, f"the process that was to make it ({addr}) has died")

    def node_gone(self, number: int, why: str) -> None:
        """A node is gone."""
        self.owner.node_gone(number, why)
        self._borrowing.forget_node(number)
        self._from_borrowing()
        self._inherited.node_gone(number)
        unmade = [ident for ident, (asker, _) in self._promised.items() if asker.node == number]
        self.break_promises(unmade, f"the node of the process that was to make it has died: {why}")

    def tick(self, now: float) -> float:
        """What is due by time. Returns the time of the next tick."""
        if self._homeless and any(True for _ in self._nodes()):
            self._homeless = False
            self.owner.leases.ask_all_anew()
        return self.owner.tick(now)


def _place(key: bytes, row: Any) -> int:
    """Where a row stands among those that are written together."""
    place = _ORDER.index(key[:1])
    return place if row is not None else 2 * len(_ORDER) - place


def _size(msg: KeepActor) -> int:
    return len(msg.create.args) + len(msg.code) + len(msg.job)
