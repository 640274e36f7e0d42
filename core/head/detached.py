"""The owner of the actors that outlive their creators: a part of the head.

An actor is owned by a process: it leases the worker, restarts it, and tells everyone who asks where it is. Those that
shall outlive whoever made them are owned by the head, with the machine that any process has (`owner/machine`); its id
says so. What it must not forget it writes into the head's journal before anybody hears of it. A head that takes the
place of another finds its actors alive. Each raylet says which workers it keeps for the head, and what does not agree
is mended. So no process can be killed, and no node but the head's can be lost, whose end takes these actors along.

Rejected: a worker as the owner (when it is killed they all end), and then a second one that knows the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from hpc.core.ids import HEAD, HEAD_NODE, Address, raylet_of
from hpc.core.net.frames import answer_rows
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.report import report
from hpc.core.owner.tables import LeasedWorker, OwnedActor, Shape
from hpc.core.raylet.borrowing import Borrowing
from hpc.core.wire import (
    INLINE,
    NONE,
    Answer,
    BorrowAdd,
    BorrowDrop,
    DefineFunction,
    HeadLeases,
    HoldAcked,
    KeepActor,
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
)

#: The arguments of detached actors, all together, with the code of the next; one more is refused.
MAX_KEPT_BYTES = 256 << 20
_ACTOR, _CODE = b"a", b"c"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(KeepActor).decode


class DetachedActors:
    """The pure part of a head that owns actors. ``nodes`` gives the numbers of the nodes that take work, ``to_head``
    takes what this owner says to the head itself."""

    def __init__(
        self,
        forward: list[tuple[Address, Message]],
        nodes: Callable[[], Iterable[int]],
        to_head: Callable[[Message], None],
    ) -> None:
        self.owner = OwnerMachine(HEAD, send=self._send)
        self.owner.actors.changed = self._on_change
        self.owner.ended_actors.keeps = True
        self._forward = forward
        self._nodes = nodes
        self._to_head = to_head
        self._home = 0
        self._homeless = False
        self._borrowing = Borrowing(HEAD_NODE)
        self._kept: dict[bytes, KeepActor] = {}
        self._kept_bytes = 0
        self._shapes: dict[bytes, Shape] = {}
        self._loaded: dict[bytes, list[Any]] = {}
        self._changed: dict[bytes, None] = {}
        own = dict(self.owner.handlers)
        own[HeadLeases] = self._on_head_leases
        own[HoldAcked] = self._on_hold_acked
        own[KeepActor] = self._on_keep_actor
        own[LeaseGrant] = self._on_lease_grant
        own[LeaseInfeasible] = self._on_lease_infeasible
        own[StateQuery] = lambda src, msg: self._send(
            src, answer_rows(msg.req, report(self.owner, msg.what, msg.limit))
        )
        own[NewActor] = lambda src, msg: self._send(src, Answer(msg.req, True, self.owner.new_ids()))
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

    def begin(self, epoch: int) -> None:
        """Number ids and requests from this head's own number on, and take over the actors of the one before."""
        self.owner.state.made = epoch << 40
        self.owner.leases.last_request = epoch << 32
        loaded, self._loaded = self._loaded, {}
        for ident, row in loaded.items():
            self._adopt(ident, row)

    def changes(self) -> Iterator[tuple[bytes, Any]]:
        """Rows of actors that have changed, and the code of new ones."""
        changed, self._changed = self._changed, {}
        for key in changed:
            if key[:1] == _CODE:
                yield key, self.owner.state.functions[key[1:]]
            else:
                actor = self.owner.state.actors.get(key[1:])
                gone = actor is None or actor.state == "dead" or key[1:] not in self._kept
                yield key, None if gone or actor is None else self._row(actor)

    def rows(self) -> Iterator[tuple[bytes, Any]]:
        """All code and all living actors."""
        for fn in {keep.create.fn: None for keep in self._kept.values()}:
            yield _CODE + fn, self.owner.state.functions[fn]
        for ident, actor in self.owner.state.actors.items():
            if actor.state != "dead" and ident in self._kept:
                yield _ACTOR + ident, self._row(actor)

    def _row(self, actor: OwnedActor) -> list[Any]:
        lease = actor.lease
        where = [] if lease is None else [lease.ident, *lease.worker, actor.path, lease.instances]
        kept = _encode(self._kept[actor.create.actor])
        return [kept, actor.state, actor.incarnation, actor.restarts, actor.why, where]

    def load(self, key: bytes, data: Any) -> None:
        """Take over a row of the journal."""
        if key[:1] == _CODE:
            self.owner.state.functions[key[1:]] = data
        elif data is None:
            self._loaded.pop(key[1:], None)
        else:
            self._loaded[key[1:]] = data

    def _adopt(self, ident: bytes, row: Sequence[Any]) -> None:
        kept, state, incarnation, restarts, why, where = row
        keep = _decode(kept)
        actor = OwnedActor(keep.create, self._shape_of(keep), restarts, keep.create.holds)
        actor.state, actor.incarnation, actor.why = state, incarnation, why
        self.owner.state.actors[ident] = actor
        self.owner.objects.own(ident)
        self._keep(keep, actor)
        if where:
            lease = LeasedWorker(where[0], Address(where[1], where[2]), actor.shape, where[4])
            self.owner.state.leases[lease.ident] = actor.shape.leases[lease.ident] = lease
            self.owner.state.known[lease.worker] = {keep.create.fn}
            lease.actor, actor.lease = actor, lease
            actor.worker, actor.path = lease.worker, where[3]
        if state == "alive":
            self.owner.objects.set_result(ident, Result(INLINE, NONE))
        self.owner.arguments.take(actor, keep.create.refs, keep.create.holds)
        if not actor.unresolved:
            self.owner.actors.place(actor)

    def _on_head_leases(self, src: Address, msg: HeadLeases) -> None:
        """What a raylet keeps for the head, said to one that has taken another's place."""
        kept = dict(msg.leases)
        for lease in [le for le in self.owner.state.leases.values() if le.worker.node == src.node]:
            if lease.ident not in kept:
                self.owner.leases.lose(lease, None, "crash", "it ended while the head was away")
            elif lease.actor is not None and lease.actor.state != "alive":
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

    def _on_keep_actor(self, src: Address, msg: KeepActor) -> None:
        """Make the actor, and answer once the owners of its arguments know that the head holds them."""
        create = msg.create
        if create.actor not in self.owner.state.actors:
            if self._kept_bytes + _size(msg) > MAX_KEPT_BYTES:
                why = f"the code and arguments of detached actors may take {MAX_KEPT_BYTES >> 20} MiB together"
                self._send(src, Answer(msg.req, False, why=why))
                return
            self.owner.state.functions[create.fn] = msg.code
            self._changed[_CODE + create.fn] = None
            msg.code = b""
            shape = self._shape_of(msg)
            self._kept[create.actor] = msg
            actor = self.owner.actors.create(create, shape, msg.restarts, create.holds)
            self._keep(msg, actor)
            if actor.state == "dead":  # at once, because of an argument: before it had its name
                self._to_head(NameRelease(actor.namespace, actor.name, create.actor))
                self.owner.actors.announce(actor)
                self.owner.objects.let_go(create.actor)
        answer = Answer(msg.req, True)
        self.owner.objects.when_acked([*create.refs, *create.holds], lambda: self._send(src, answer))

    def _keep(self, msg: KeepActor, actor: OwnedActor) -> None:
        create = msg.create
        self._kept[create.actor] = msg
        self._kept_bytes += _size(msg)
        actor.name = str(create.options.get("name") or "")
        actor.namespace = str(create.options.get("namespace") or "")
        actor.detached = True
        self._changed[_ACTOR + create.actor] = None

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
        if actor is not None and actor.state == "dead":
            kept = self._kept.pop(ident, None)
            self._kept_bytes -= 0 if kept is None else _size(kept)

    # -------------------------------------------------------------- what the head has learnt

    def enter(self, session: str) -> None:
        """The name of the session."""
        self.owner.enter(session)

    def process_gone(self, addr: Address) -> None:
        """A process is gone."""
        self.owner.process_gone(addr)

    def node_gone(self, node: int, why: str) -> None:
        """A node is gone."""
        self.owner.node_gone(node, why)

    def tick(self, now: float) -> float:
        """What is due by time. Returns the time of the next tick."""
        if self._homeless and any(True for _ in self._nodes()):
            self._homeless = False
            self.owner.leases.ask_all_anew()
        return self.owner.tick(now)


def _size(msg: KeepActor) -> int:
    return len(msg.create.args) + len(msg.code) + len(msg.job)
