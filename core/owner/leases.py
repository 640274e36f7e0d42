"""Leases of workers: how many workers of each shape this process wants, which it has, and what is queued at each.

The raylet hears an absolute demand per shape, never of single tasks; tasks go straight to leased workers, many per
message. How many tasks are queued behind one another on a worker follows from how long they run: 2 ms worth of work.
Above 1 ms it is one at a time, so that a long task never sits behind another while a worker idles elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

from hpc.core.causes import NEVER, ActorErrorName, LostCause, NeverCause
from hpc.core.ids import Address
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import LeasedWorker, Shape, TaskRec
from hpc.core.wire import (
    DefineFunction,
    GivenBack,
    LeaseBegin,
    LeaseFailed,
    LeaseGrant,
    LeaseInfeasible,
    LeaseLost,
    LeaseReclaim,
    LeaseRequest,
    LeaseReturn,
    Result,
    system_error,
)

#: Work that may be queued at one worker, in µs of its tasks' mean running time.
PIPELINE_US = 2000.0
#: Tasks that run longer than this are never queued behind one another.
LONG_US = 1000.0
#: Messages for one worker that are sent together while it is busy anyway.
BATCH = 64
#: The largest demand that is ever made for one shape.
MAX_WANT = 10_000


class Leases:
    """The workers that are ours for a while, and the queues of tasks that wait for one. It says ``fail`` when a task in
    a queue will never run, and ``leased`` when there is a worker for one of a shape's actors. It says ``unplaced`` when
    a shape's actors will never be placed, and ``lost`` when a leased worker is gone. The last that
    a lost worker began was ``running``; where that is not known, it is None."""

    def __init__(
        self,
        state: OwnerState,
        idle_lease_s: float,
        fail: Callable[[TaskRec, Result], None],
        leased: Callable[[Shape, LeasedWorker], None],
        unplaced: Callable[[Shape, ActorErrorName, str], None],
        lost: Callable[[LeasedWorker, bytes | None, LostCause, str], None],
    ) -> None:
        self.state = state
        self.idle_lease_s = idle_lease_s
        self.addr, self.raylet, self.send = state.addr, state.raylet, state.send
        self.outbox, self.urgent = state.outbox, state.urgent
        self.tasks, self.shapes, self.requests, self.leases = state.tasks, state.shapes, state.requests, state.leases
        self.functions, self.known, self.paths = state.functions, state.known, state.paths
        self.gone, self.gone_nodes, self.dirty = state.gone, state.gone_nodes, state.dirty
        self.fail, self.leased, self.unplaced, self.lost = fail, leased, unplaced, lost
        #: Leases with nothing in flight, by their number.
        self.idle: dict[int, LeasedWorker] = {}
        #: The number of the last demand: each has one of its own.
        self.last_request = 0
        #: Whether pipelines are being filled at the end of a step: what is given out then goes at once.
        self._settling = False

    def add_shape(self, shape: Shape) -> Shape:
        """Register a shape; its number names it in messages."""
        if self.state.groups_gone:
            self._forget_gone()
        if shape.strategy[0] == "pg":
            shape.gone = self.state.groups_gone.get(shape.strategy[1], "")
        self.last_request += 1
        shape.req = self.last_request
        self.requests[shape.req] = shape
        self.shapes.append(shape)
        return shape

    def _forget_gone(self) -> None:
        """Shapes of groups that were removed, with nothing left of what was asked for by them. A task or an actor that
        still has one fails by it: it knows that its group is gone."""
        over = {one for one in self.shapes if one.gone and not (one.queue or one.actors or one.leases or one.want)}
        if over:
            self.shapes[:] = [one for one in self.shapes if one not in over]
            for req in [req for req, one in self.requests.items() if one in over]:
                del self.requests[req]

    def enqueue(self, rec: TaskRec) -> None:
        """A task whose arguments are there waits for a worker."""
        shape = rec.shape
        if rec.msg.depth > shape.level:
            shape.level = rec.msg.depth
        queue = shape.queue
        queue.append(rec)
        if shape.idle:
            self.pump(shape)
        elif len(queue) > (2 * shape.want - 1) * shape.depth:
            self.ask(shape)

    # -------------------------------------------------------------- demands

    def _needed(self, shape: Shape) -> int:
        if shape.actor:
            return min(MAX_WANT, len(shape.actors))
        return min(MAX_WANT, -(-len(shape.queue) // shape.depth))

    def ask(self, shape: Shape, exactly: bool = False) -> None:
        """Tell the raylet how many workers we want, if that changed enough to be worth a message."""
        needed = self._needed(shape)
        if needed == shape.want or (not exactly and 0 < needed < 2 * shape.want):
            return
        if needed and shape.gone:
            self.fail_shape(shape, "group_removed", shape.gone)
            return
        shape.want = needed
        request = LeaseRequest(
            shape.req, self.addr, shape.held, shape.placement, needed, shape.seen, shape.actor, shape.strategy,
            shape.env, shape.level, driver=shape.driver or self.state.driver, time_s=shape.time_s,
        )  # fmt: skip
        self.send(self.raylet, request)

    def ask_anew(self, shape: Shape) -> None:
        """Begin a new demand. Parts of the old one, even if it was withdrawn since, may have been forwarded to a node
        that died. They would count as sent for ever."""
        needed, shape.want = shape.want, 0
        old = LeaseRequest(
            shape.req, self.addr, shape.held, shape.placement, 0, shape.seen, shape.actor, shape.strategy, shape.env
        )
        self.send(self.raylet, old)
        self.last_request += 1
        shape.req, shape.seen = self.last_request, 0
        self.requests[shape.req] = shape
        if needed:
            self.ask(shape, exactly=True)

    def ask_all_anew(self) -> None:
        """`ask_anew` for every shape."""
        for shape in self.shapes:
            self.ask_anew(shape)

    def ask_exactly(self) -> None:
        """Before the caller waits: let the raylet know all that we want."""
        for shape in self.shapes:
            if shape.queue or shape.want or shape.actors:
                self.ask(shape, exactly=True)

    def on_lease_infeasible(self, src: Address, msg: LeaseInfeasible) -> None:
        shape = self.requests.get(msg.req)
        if shape is None:
            return
        if msg.final:
            self.fail_shape(shape, msg.final, msg.why)
        elif shape.infeasible != msg.why:
            shape.infeasible = msg.why
            self.state.warnings.append(msg.why)

    def on_lease_failed(self, src: Address, msg: LeaseFailed) -> None:
        """No worker could be made for the shape: what waits for one fails, what is submitted later tries again. An
        answer to an earlier request is late news of a failure that has been dealt with."""
        shape = self.requests.get(msg.req)
        if shape is None or msg.req != shape.req:
            return
        self.fail_shape(shape, "environment", msg.why)
        shape.want = 0
        self.ask_anew(shape)

    def fail_shape(self, shape: Shape, cause: NeverCause, why: str) -> None:
        """Nothing that waits for this shape will ever run."""
        task_error, actor_error = NEVER[cause]
        queue = list(shape.queue)
        shape.queue.clear()
        for rec in queue:
            if rec.msg.task in self.tasks:
                self.fail(rec, system_error(task_error, why, task=rec.msg.name))
        self.unplaced(shape, actor_error, why)
        self.ask(shape, exactly=True)

    # -------------------------------------------------------------- giving out tasks

    def pump(self, shape: Shape) -> None:
        """Give queued tasks to leased workers that have room for them."""
        queue, idle = shape.queue, shape.idle
        # The worker that is warm comes first, but what is to be spread goes to the one that was idle for longest.
        at = 0 if shape.strategy == "SPREAD" else -1
        while queue and idle:
            lease = idle[at]
            rec = queue.popleft()
            if rec.cancelled:
                if rec.msg.task in self.tasks:  # a worker gave it back before it heard of the cancelling
                    self.fail(rec, system_error("TaskCancelledError", "it was cancelled", task=rec.msg.name))
                continue
            self._assign(lease, rec)
            if len(lease.inflight) >= shape.depth:
                idle.pop(at)
                lease.listed = False
        if queue or shape.want:
            self.ask(shape)

    def _assign(self, lease: LeasedWorker, rec: TaskRec) -> None:
        worker, msg = lease.worker, rec.msg
        box = self.outbox.get(worker)
        if box is None:
            box = self.outbox[worker] = []
        known = self.known[worker]
        if msg.fn not in known:
            known.add(msg.fn)
            box.append(DefineFunction(msg.fn, self.functions[msg.fn]))
        inflight = lease.inflight
        if not inflight:
            self.idle.pop(lease.ident, None)
            lease.idle_since = 0.0
            self.urgent[worker] = None
        elif self._settling or len(box) >= BATCH:
            self.urgent[worker] = None
        msg.lease = lease.ident
        msg.retriable = rec.retries != 0
        rec.lease = lease
        rec.order = lease.given = lease.given + 1
        inflight[msg.task] = rec
        box.append(msg)

    def settle(self) -> None:
        """To be called after a batch of messages: refill pipelines, once per shape."""
        dirty = self.dirty
        self._settling = True
        while dirty:
            self.pump(dirty.popitem()[0])
        self._settling = False

    # -------------------------------------------------------------- having leases

    def on_lease_grant(self, src: Address, msg: LeaseGrant) -> None:
        shape = self.requests.get(msg.req)
        if shape is None:  # of a group that was removed
            self.send(Address(msg.worker.node, 0), LeaseReturn(msg.lease))
            return
        if msg.req == shape.req:
            shape.seen += 1
            shape.want = max(0, shape.want - 1)
            shape.infeasible = ""
        if msg.worker in self.gone or msg.worker.node in self.gone_nodes:
            # The news of the worker's death was faster. The grant counts as seen, so that we ask for another.
            self.dirty[shape] = None
            return
        if shape.gone:
            self.send(Address(msg.worker.node, 0), LeaseReturn(msg.lease))
            return
        lease = LeasedWorker(msg.lease, msg.worker, shape, msg.instances)
        self.leases[msg.lease] = shape.leases[msg.lease] = lease
        self.state.nodes_used.add(msg.worker.node)
        self.known.setdefault(msg.worker, set())
        if msg.path and msg.worker.node == self.addr.node:
            self.paths[msg.worker] = msg.path
        job = self.state.job if shape.job is None else shape.job
        driver = shape.driver or self.state.driver
        group = [shape.strategy[1], shape.strategy[3]] if shape.strategy[0] == "pg" else []
        begin = LeaseBegin(msg.lease, self.addr, msg.instances, job, shape.env, shape.held, group, driver)
        self.send(msg.worker, begin, urgent=False)
        if shape.actor:
            self.leased(shape, lease)
            return
        # A worker on which nothing waits is returned at once where tasks are spread: the next one goes elsewhere.
        lease.recalled = shape.strategy == "SPREAD"
        self._make_idle(lease)
        self.dirty[shape] = None

    def _make_idle(self, lease: LeasedWorker) -> None:
        if not lease.listed:
            lease.listed = True
            lease.shape.idle.append(lease)
        if not lease.inflight:
            self.idle[lease.ident] = lease

    def _drop_lease(self, lease: LeasedWorker) -> None:
        self.leases.pop(lease.ident, None)
        lease.shape.leases.pop(lease.ident, None)
        self.idle.pop(lease.ident, None)
        self._unlist(lease)

    def _unlist(self, lease: LeasedWorker) -> None:
        if lease.listed and not lease.leaving:
            lease.listed = False
            lease.shape.idle.remove(lease)

    def give_back(self, lease: LeasedWorker, retire: bool = False) -> None:
        """The worker is not ours any more."""
        self._drop_lease(lease)
        box = self.outbox.get(lease.worker)
        if box:
            self.outbox[lease.worker] = [m for m in box if not isinstance(m, LeaseBegin)]
        self.send(Address(lease.worker.node, 0), LeaseReturn(lease.ident, retire))

    def on_lease_reclaim(self, src: Address, msg: LeaseReclaim) -> None:
        for lease in list(self.leases.values()):
            if lease.worker.node == msg.node and lease.actor is None:
                lease.recalled = True
                if lease.ident in self.idle and not lease.shape.queue:
                    self.give_back(lease)
        for ident in msg.leases:
            if (asked := self.leases.get(ident)) is not None:
                self.leave(asked)  # others wait for their share

    def leave(self, lease: LeasedWorker) -> None:
        """Nothing more is queued there, and it goes back when it is empty. (It says that it is listed, so that nobody
        lists it.)"""
        if lease.actor is None and not lease.leaving:
            self._unlist(lease)
            lease.recalled = lease.leaving = lease.listed = True
            if not lease.inflight:
                self.give_back(lease)
            self.dirty[lease.shape] = None

    def on_given_back(self, src: Address, msg: GivenBack) -> None:
        lease = self.leases.get(msg.lease)
        if lease is None:
            return
        recs = [rec for task in msg.tasks if (rec := lease.inflight.pop(task, None)) is not None]
        self._unlist(lease)
        lease.shape.depth = 1
        lease.shape.mean_us = max(lease.shape.mean_us, LONG_US)
        for rec in reversed(recs):
            rec.lease = None
            rec.msg.attempt += 1
            lease.shape.queue.appendleft(rec)
        if not lease.inflight:
            if lease.leaving:
                self.give_back(lease)
            else:
                self._make_idle(lease)
        self.dirty[lease.shape] = None

    def leave_worker(self, lease: LeasedWorker) -> None:
        """The worker ends after this task by its own will; what was queued behind it goes elsewhere."""
        recs = list(lease.inflight.values())
        lease.inflight.clear()
        for rec in reversed(recs):
            rec.lease = None
            rec.msg.attempt += 1
            lease.shape.queue.appendleft(rec)
        self.outbox.pop(lease.worker, None)
        self.give_back(lease, retire=True)

    # -------------------------------------------------------------- losing leases

    def on_lease_lost(self, src: Address, msg: LeaseLost) -> None:
        lease = self.leases.get(msg.lease)
        if lease is not None:
            self.lose(lease, msg.task, msg.cause, msg.why)

    def lose(self, lease: LeasedWorker, running: bytes | None, cause: LostCause, why: str) -> None:
        """The worker is gone. ``running`` is the last task, or the actor, that it began; ``None``: unknown."""
        self._drop_lease(lease)
        self.outbox.pop(lease.worker, None)
        self.known.pop(lease.worker, None)
        self.paths.pop(lease.worker, None)
        self.lost(lease, running, cause, why)

    def node_gone(self, node: int, why: str, cause: LostCause) -> None:
        """A node is gone with the workers that were ours there."""
        for lease in [le for le in self.leases.values() if le.worker.node == node]:
            self.lose(lease, None, cause, why)

    # -------------------------------------------------------------- time

    def tick(self, now: float) -> float:
        """Return leases that have been idle for long and make demands exact. Returns the time of the next tick."""
        next_at = now + 1.0
        for lease in list(self.idle.values()):
            if lease.inflight:
                continue
            if not lease.idle_since:
                lease.idle_since = now
            if now - lease.idle_since >= self.idle_lease_s and not lease.shape.queue:
                self.give_back(lease)
            else:
                next_at = min(next_at, lease.idle_since + self.idle_lease_s)
        self.ask_exactly()
        return next_at
