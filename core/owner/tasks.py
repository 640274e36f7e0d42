"""How a submitter gets its tasks run: leases of workers per resource shape, pipelines to them, retries.

The raylet hears an absolute demand per shape, never of single tasks; tasks go straight to leased workers, many per
message. How many are queued behind one another on a worker follows from how long they run: 2 ms worth of work, one
at a time above 1 ms, so that a long task never sits behind another while a worker idles elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpc.core.causes import NEVER, ActorErrorName, LostCause, NeverCause, retries_task, task_error
from hpc.core.ids import Address, return_id
from hpc.core.owner.locality import best_node, near_shape
from hpc.core.owner.objects import Objects
from hpc.core.owner.state import OwnerState, Sender
from hpc.core.owner.streams import Streams
from hpc.core.owner.tables import CallRec, Entry, Lease, OwnedActor, Shape, TaskRec
from hpc.core.passing import passed_on
from hpc.core.wire import (
    AT_OWNER,
    ERROR,
    INLINE,
    MAX_VALUES_BYTES,
    SYSTEM,
    DefineFunction,
    Done,
    GivenBack,
    LeaseBegin,
    LeaseFailed,
    LeaseGrant,
    LeaseInfeasible,
    LeaseLost,
    LeaseReclaim,
    LeaseRequest,
    LeaseReturn,
    Release,
    Result,
    Task,
    system_error,
)

#: Work that may be queued at one worker, in µs of its tasks' mean running time.
PIPELINE_US = 2000.0
#: Tasks that run longer than this are never queued behind one another.
LONG_US = 1000.0
#: Messages for one worker that are sent together while it is busy anyway.
BATCH = 64
#: What a submitted task takes here beside its arguments, in bytes: measured, 750 with its reference.
TASK_BYTES = 700
#: The largest demand that is ever made for one shape.
MAX_WANT = 10_000


class TaskSubmitter:
    """The tasks that this process has submitted. ``resolve`` order: dependencies, lease, worker, result."""

    def __init__(self, addr: Address, job: bytes = b"", idle_lease_s: float = 0.1, send: Sender | None = None) -> None:
        state = self.state = OwnerState(addr, send)
        objects = Objects(state, self.object_freed, self.object_forgotten, self.all_copies_lost, self.resolved)
        streams = Streams(state, objects)
        self._objects, self._streams = objects, streams
        self.addr, self.raylet = addr, state.raylet
        self.send, self.box, self.new_ids, self.enter = state.send, state.box, state.new_ids, state.enter
        self.take_outbox, self.unfinished = state.take_outbox, state.unfinished
        self.outbox, self.urgent, self.woken, self.unpinned = state.outbox, state.urgent, state.woken, state.unpinned
        self.dropped, self.objects, self.tasks, self.calls = state.dropped, state.entries, state.tasks, state.calls
        self.streams, self.handed_over = state.streams, state.handed_over
        self.gone, self.gone_nodes = state.gone, state.gone_nodes
        self.error_watches, self.unseen = state.error_watches, state.unseen
        self.own, self.hold, self.let_go, self.let_go_all = (
            objects.own,
            objects.hold,
            objects.let_go,
            objects.let_go_all,
        )
        self.drain_dropped, self.when_acked = objects.drain_dropped, objects.when_acked
        self.hold_until_acked, self.hand_over = objects.hold_until_acked, objects.hand_over
        self.set_result, self.await_value = objects.set_result, objects.await_value
        self.await_no_more, self.copies_lost = objects.await_no_more, objects.copies_lost
        self.put_inline, self.put_stored, self.finish_with = objects.put_inline, objects.put_stored, objects.finish_with
        self.maker_of, self.take_item = streams.maker_of, streams.take_item
        self.checked, self.lost_items, self.seek = streams.checked, streams.lost_items, streams.seek
        self.own_returns, self.set_results, self.free_copies = (
            streams.own_returns, streams.set_results, streams.free_copies,
        )  # fmt: skip
        #: Called when a process is known to be gone: the shell may be waiting for an answer of its.
        self.on_gone: Callable[[Address], None] = lambda addr: None
        self.job = job
        self.driver = addr
        self.idle_lease_s = idle_lease_s
        self.shapes: list[Shape] = []
        self.requests: dict[int, Shape] = {}
        self._requests = 0
        self.leases: dict[int, Lease] = {}
        self.idle_leases: dict[int, Lease] = {}
        self.functions: dict[bytes, bytes] = {}
        self.known: dict[Address, set[bytes]] = {}
        self.paths: dict[Address, str] = {}
        self.pending_bytes = 0
        self.max_values_bytes = MAX_VALUES_BYTES
        self.nodes_used: set[int] = set()
        self.warnings: list[str] = []
        self._dirty: dict[Shape, None] = {}
        self._settling = False

    def object_freed(self, entry: Entry) -> None:
        """Hook for the layers above: nobody holds this object of ours any more."""
        raise NotImplementedError

    def object_forgotten(self, ident: bytes) -> None:
        """Hook for the layers above: nobody here holds the object any more."""
        raise NotImplementedError

    def all_copies_lost(self, entry: Entry, why: str) -> None:
        """Hook for the layers above: an object of ours has a value no more."""
        raise NotImplementedError

    def forget_process(self, addr: Address) -> None:
        """A process is gone, with what it owned."""
        self.gone.add(addr)
        self.outbox.pop(addr, None)
        self.on_gone(addr)
        self._objects.process_gone(addr)

    # -------------------------------------------------------------- submitting

    def add_shape(self, shape: Shape) -> Shape:
        """Register a shape; its number names it in messages."""
        self._requests += 1
        shape.req = self._requests
        self.requests[shape.req] = shape
        self.shapes.append(shape)
        return shape

    def submit(
        self, msg: Task, shape: Shape, retries: int, retry_exceptions: bool, holds: Sequence[bytes], parent: bytes = b""
    ) -> None:
        """A new task of ours. The entries of its return values are made here, each held once by the caller. ``parent``
        is the task that submits it."""
        size = len(msg.args) + TASK_BYTES
        task = msg.task
        rec = self.tasks[task] = TaskRec(msg, shape, retries, retry_exceptions, holds, size, parent)
        self.pending_bytes += size
        if msg.num_returns == 1:
            self.objects[task] = Entry(task, True, 1, True)
        else:
            self.own_returns(task, msg.num_returns, msg.window)
        if msg.refs or holds:
            self._take_arguments(rec, msg.refs, holds)
            if rec.unresolved:
                return
        if msg.refs:
            self.resolved(rec)
            return
        self._enqueue(rec)

    def _take_arguments(
        self, rec: TaskRec | CallRec | OwnedActor, refs: Sequence[bytes], holds: Sequence[bytes]
    ) -> None:
        """Hold all references among the arguments; those without a value yet will call ``resolved``."""
        for ident in holds:
            self.hold(ident)
        pending = [e for ident in refs if (e := self.hold(ident)).result is None]
        rec.unresolved = len(pending)
        for entry in pending:
            self.await_value(entry, rec)

    def argument_values(self, refs: Sequence[bytes]) -> tuple[tuple[Result, ...], Result | None]:
        """What the references resolved to, and the first error among them."""
        values: list[Result] = []
        room = self.max_values_bytes
        for ident in refs:
            result = self.objects[ident].result
            assert result is not None
            if result.kind == ERROR or result.kind == SYSTEM:
                self.unseen.discard(ident)  # whoever gets the value of this task gets that error
                return (), result
            if result.kind == INLINE:
                room -= len(result.data)
                if room < 0:
                    result = Result(AT_OWNER, b"", len(result.data))
            values.append(result)
        return tuple(values), None

    def resolved(self, rec: TaskRec | CallRec | OwnedActor) -> None:
        assert isinstance(rec, TaskRec)
        if rec.msg.task not in self.tasks:
            return  # it was cancelled while it waited for its arguments
        rec.msg.values, error = self.argument_values(rec.msg.refs)
        if error is not None:
            self._fail(rec, passed_on(error, rec.msg.name))
        else:
            if rec.shape.strategy == "DEFAULT":
                node = best_node(rec.msg.values)
                if node:
                    rec.shape, new = near_shape(rec.shape, node)
                    if new:
                        self.add_shape(rec.shape)
            self._enqueue(rec)

    def _enqueue(self, rec: TaskRec) -> None:
        shape = rec.shape
        if rec.msg.depth > shape.level:
            shape.level = rec.msg.depth
        queue = shape.queue
        queue.append(rec)
        if shape.idle:
            self._pump(shape)
        elif len(queue) > (2 * shape.want - 1) * shape.depth:
            self._ask(shape)

    # -------------------------------------------------------------- leases

    def _needed(self, shape: Shape) -> int:
        if shape.actor:
            return min(MAX_WANT, len(shape.actors))
        return min(MAX_WANT, -(-len(shape.queue) // shape.depth))

    def _ask(self, shape: Shape, exactly: bool = False) -> None:
        """Tell the raylet how many workers we want, if that changed enough to be worth a message."""
        needed = self._needed(shape)
        if needed == shape.want or (not exactly and 0 < needed < 2 * shape.want):
            return
        if needed and shape.gone:
            self._fail_shape(shape, "group_removed", shape.gone)
            return
        shape.want = needed
        request = LeaseRequest(
            shape.req, self.addr, shape.held, shape.placement, needed, shape.seen, shape.actor, shape.strategy,
            shape.env, shape.level, driver=shape.driver or self.driver,
        )  # fmt: skip
        self.send(self.raylet, request)

    def _pump(self, shape: Shape) -> None:
        """Give queued tasks to leased workers that have room for them."""
        queue, idle = shape.queue, shape.idle
        # The worker that is warm comes first, but what is to be spread goes to the one that was idle for longest.
        at = 0 if shape.strategy == "SPREAD" else -1
        while queue and idle:
            lease = idle[at]
            rec = queue.popleft()
            if rec.cancelled:
                if rec.msg.task in self.tasks:  # a worker gave it back before it heard of the cancelling
                    self._fail(rec, system_error("TaskCancelledError", "it was cancelled", task=rec.msg.name))
                continue
            self._assign(lease, rec)
            if len(lease.inflight) >= shape.depth:
                idle.pop(at)
                lease.listed = False
        if queue or shape.want:
            self._ask(shape)

    def _assign(self, lease: Lease, rec: TaskRec) -> None:
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
            self.idle_leases.pop(lease.ident, None)
            lease.idle_since = 0.0
            self.urgent[worker] = None
        elif self._settling or len(box) >= BATCH:
            self.urgent[worker] = None
        msg.lease = lease.ident
        msg.retriable = rec.retries != 0
        rec.lease = lease
        inflight[msg.task] = rec
        box.append(msg)

    def on_lease_grant(self, src: Address, msg: LeaseGrant) -> None:
        shape = self.requests.get(msg.req)
        if shape is None:  # of a group that was removed
            self.send(Address(msg.worker.node, 0), LeaseReturn(msg.lease))
            return
        if msg.req == shape.req:
            shape.seen += 1
            shape.want = max(0, shape.want - 1)
        if msg.worker in self.gone or msg.worker.node in self.gone_nodes:
            # The news of the worker's death was faster. The grant counts as seen, so that we ask for another.
            self._dirty[shape] = None
            return
        if shape.gone:
            self.send(Address(msg.worker.node, 0), LeaseReturn(msg.lease))
            return
        lease = Lease(msg.lease, msg.worker, shape, msg.instances)
        self.leases[msg.lease] = shape.leases[msg.lease] = lease
        self.nodes_used.add(msg.worker.node)
        self.known.setdefault(msg.worker, set())
        if msg.path and msg.worker.node == self.addr.node:
            self.paths[msg.worker] = msg.path
        job = self.job if shape.job is None else shape.job
        driver = shape.driver or self.driver
        group = [shape.strategy[1], shape.strategy[3]] if shape.strategy[0] == "pg" else []
        begin = LeaseBegin(msg.lease, self.addr, msg.instances, job, shape.env, shape.held, group, driver)
        self.send(msg.worker, begin, urgent=False)
        if shape.actor:
            self.actor_leased(shape, lease)
            return
        # A worker on which nothing waits is returned at once where tasks are spread: the next one goes elsewhere.
        lease.recalled = shape.strategy == "SPREAD"
        self._make_idle(lease)
        self._dirty[shape] = None

    def actor_leased(self, shape: Shape, lease: Lease) -> None:
        """Hook for the layer above: a worker for one of the shape's actors."""
        raise NotImplementedError

    def on_lease_infeasible(self, src: Address, msg: LeaseInfeasible) -> None:
        shape = self.requests.get(msg.req)
        if shape is None:
            return
        if msg.final:
            self._fail_shape(shape, msg.final, msg.why)
        elif shape.infeasible != msg.why:
            shape.infeasible = msg.why
            self.warnings.append(msg.why)

    def _fail_shape(self, shape: Shape, cause: NeverCause, why: str) -> None:
        """Nothing that waits for this shape will ever run."""
        task_error, actor_error = NEVER[cause]
        queue = list(shape.queue)
        shape.queue.clear()
        for rec in queue:
            if rec.msg.task in self.tasks:
                self._fail(rec, system_error(task_error, why, task=rec.msg.name))
        self.actors_unplaced(shape, actor_error, why)
        self._ask(shape, exactly=True)

    def on_lease_failed(self, src: Address, msg: LeaseFailed) -> None:
        """No worker could be made for the shape: what waits for one fails, what is submitted later tries again. An
        answer to an earlier request is late news of a failure that has been dealt with."""
        shape = self.requests.get(msg.req)
        if shape is None or msg.req != shape.req:
            return
        self._fail_shape(shape, "environment", msg.why)
        shape.want = 0
        self._ask_anew(shape)

    def actors_unplaced(self, shape: Shape, error: ActorErrorName, why: str) -> None:
        """Hook for the layer above: the shape's actors will never be placed."""
        raise NotImplementedError

    def _make_idle(self, lease: Lease) -> None:
        if not lease.listed:
            lease.listed = True
            lease.shape.idle.append(lease)
        if not lease.inflight:
            self.idle_leases[lease.ident] = lease

    def _drop_lease(self, lease: Lease) -> None:
        self.leases.pop(lease.ident, None)
        lease.shape.leases.pop(lease.ident, None)
        self.idle_leases.pop(lease.ident, None)
        self._unlist(lease)

    def _unlist(self, lease: Lease) -> None:
        if lease.listed and not lease.leaving:
            lease.listed = False
            lease.shape.idle.remove(lease)

    def return_lease(self, lease: Lease, retire: bool = False) -> None:
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
                if lease.ident in self.idle_leases and not lease.shape.queue:
                    self.return_lease(lease)
        for ident in msg.leases:
            if (asked := self.leases.get(ident)) is not None:
                self._leave(asked)  # others wait for their share

    def _leave(self, lease: Lease) -> None:
        """Nothing more is queued there, and it goes back when it is empty. (It says that it is listed, so that nobody
        lists it.)"""
        if lease.actor is None and not lease.leaving:
            self._unlist(lease)
            lease.recalled = lease.leaving = lease.listed = True
            if not lease.inflight:
                self.return_lease(lease)
            self._dirty[lease.shape] = None

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
                self.return_lease(lease)
            else:
                self._make_idle(lease)
        self._dirty[lease.shape] = None

    # -------------------------------------------------------------- results

    def on_done(self, src: Address, msg: Done) -> None:
        rec = self.tasks.get(msg.task)
        if rec is None or rec.msg.attempt != msg.attempt:
            self._discard(src, msg)
        else:
            self.task_done(src, rec, msg)

    def task_done(self, src: Address, rec: TaskRec, msg: Done) -> None:
        """A task of ours has ended; what it gave is its value, or it is tried again."""
        lease = rec.lease
        if lease is not None:
            rec.lease = None
            shape = lease.shape
            inflight = lease.inflight
            inflight.pop(msg.task, None)
            self._dirty[shape] = None
            mean = shape.mean_us = shape.mean_us * 0.75 + msg.run_us * 0.25
            shape.depth = 1 if mean > LONG_US else min(shape.max_depth, int(PIPELINE_US / (mean + 2.0)) + 1)
            if msg.exiting:
                self._leave_worker(lease)
            else:
                if not lease.listed:
                    lease.listed = True
                    shape.idle.append(lease)
                if not inflight:
                    self.idle_leases[lease.ident] = lease
                    if lease.recalled and (lease.leaving or not shape.queue):
                        # Somebody waits for it: it is returned now, not after the usual while.
                        self.return_lease(lease)
                elif self.outbox.get(lease.worker):
                    self.urgent[lease.worker] = None
        if msg.retryable and rec.retries and rec.retry_exceptions and not rec.cancelled:
            self._retry(rec)
            return
        self._finish(rec, msg.results, src)

    def _leave_worker(self, lease: Lease) -> None:
        """The worker ends after this task by its own will; what was queued behind it goes elsewhere."""
        recs = list(lease.inflight.values())
        lease.inflight.clear()
        for rec in reversed(recs):
            rec.lease = None
            rec.msg.attempt += 1
            lease.shape.queue.appendleft(rec)
        self.outbox.pop(lease.worker, None)
        self.return_lease(lease, retire=True)

    def _discard(self, src: Address, msg: Done) -> None:
        """An answer that nobody waits for: a late attempt, or a task that was cancelled."""
        if any(result.inner for result in msg.results):
            self.send(src, Release(msg.task, msg.attempt))
        for index, result in enumerate(msg.results):
            self.free_copies(return_id(msg.task, index), result)

    def _finish(self, rec: TaskRec, results: list[Result], src: Address) -> None:
        del self.tasks[rec.msg.task]
        self.pending_bytes -= rec.size
        self.set_results(rec, results, src)
        if rec.holds:
            self.let_go_all(rec.holds)
        if rec.msg.refs:
            self.let_go_all(rec.msg.refs)

    def _fail(self, rec: TaskRec, error: Result) -> None:
        self._finish(rec, [error] * max(1, rec.msg.num_returns), self.addr)

    def _retry(self, rec: TaskRec) -> None:
        if rec.retries > 0:
            rec.retries -= 1
        rec.msg.attempt += 1
        rec.shape.queue.appendleft(rec)
        self._dirty[rec.shape] = None

    # -------------------------------------------------------------- losses

    def on_lease_lost(self, src: Address, msg: LeaseLost) -> None:
        lease = self.leases.get(msg.lease)
        if lease is not None:
            self._lose_lease(lease, msg.task, msg.cause, msg.why)

    def _lose_lease(self, lease: Lease, running: bytes | None, cause: LostCause, why: str) -> None:
        """The worker is gone. Only what it was running (a task, or an actor) uses up a retry or restart; ``None``:
        unknown, so all do."""
        self._drop_lease(lease)
        self.outbox.pop(lease.worker, None)
        self.known.pop(lease.worker, None)
        self.paths.pop(lease.worker, None)
        if lease.actor is not None:
            self.actor_lost(lease.actor, cause, why, running in (None, lease.actor.create.actor))
            return
        recs = list(lease.inflight.values())
        lease.inflight.clear()
        for rec in reversed(recs):
            rec.lease = None
            started = running is None or rec.msg.task == running
            if rec.cancelled:
                self._fail(rec, system_error("TaskCancelledError", "it was cancelled"))
            elif not retries_task(cause):
                self._fail(rec, system_error(task_error(cause), why, task=rec.msg.name))
            elif not started:
                rec.msg.attempt += 1
                rec.shape.queue.appendleft(rec)
            elif rec.retries:
                self._retry(rec)
            else:
                self._fail(rec, system_error(task_error(cause), why, task=rec.msg.name))
        self._dirty[lease.shape] = None

    def actor_lost(self, actor: OwnedActor, cause: LostCause, why: str, begun: bool) -> None:
        """Hook for the layer above: the worker that was an actor is gone; its constructor may have ``begun``, or it is
        known that it had not."""
        raise NotImplementedError

    def forget_node(self, node: int, why: str) -> None:
        self.gone_nodes[node] = why
        for lease in [le for le in self.leases.values() if le.worker.node == node]:
            self._lose_lease(lease, None, "node", why)
        for addr in self._objects.met_on(node):
            self.forget_process(addr)
        self._objects.node_gone(node)
        for shape in self.shapes:
            self._ask_anew(shape)

    def _ask_anew(self, shape: Shape) -> None:
        """Parts of a demand, even of one that was withdrawn since, may have been forwarded to a node that died and be
        counted as sent for ever: begin a new one."""
        needed, shape.want = shape.want, 0
        old = LeaseRequest(
            shape.req, self.addr, shape.held, shape.placement, 0, shape.seen, shape.actor, shape.strategy, shape.env
        )
        self.send(self.raylet, old)
        self._requests += 1
        shape.req, shape.seen = self._requests, 0
        self.requests[shape.req] = shape
        if needed:
            self._ask(shape, exactly=True)

    # -------------------------------------------------------------- time

    def settle(self) -> None:
        """To be called after a batch of messages: refill pipelines, once per shape."""
        dirty = self._dirty
        self._settling = True
        while dirty:
            self._pump(dirty.popitem()[0])
        self._settling = False

    def tick(self, now: float) -> float:
        """Return leases that have been idle for long and make demands exact. Returns the time of the next tick."""
        next_at = now + 1.0
        for lease in list(self.idle_leases.values()):
            if lease.inflight:
                continue
            if not lease.idle_since:
                lease.idle_since = now
            if now - lease.idle_since >= self.idle_lease_s and not lease.shape.queue:
                self.return_lease(lease)
            else:
                next_at = min(next_at, lease.idle_since + self.idle_lease_s)
        self.ask_exactly()
        return next_at

    def ask_exactly(self) -> None:
        """Before the caller waits: let the raylet know all that we want."""
        for shape in self.shapes:
            if shape.queue or shape.want or shape.actors:
                self._ask(shape, exactly=True)
