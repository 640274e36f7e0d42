"""The tasks that this process has submitted: from their arguments to their results, with retries.

Workers for them are the business of `leases`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpc.core.causes import LostCause, is_charged, retries_task, task_error
from hpc.core.events.kinds import EventKind
from hpc.core.ids import Address
from hpc.core.owner.arguments import Arguments
from hpc.core.owner.events import OwnerEvents
from hpc.core.owner.leases import LONG_US, PIPELINE_US, Leases
from hpc.core.owner.locality import best_node, near_shape
from hpc.core.owner.objects import Objects
from hpc.core.owner.state import OwnerState
from hpc.core.owner.streams import ItemStreams
from hpc.core.owner.tables import CallRec, Entry, LeasedWorker, Shape, TaskRec
from hpc.core.passing import passed_on
from hpc.core.wire import INLINE, Done, Result, Task, system_error

#: What a submitted task takes here beside its arguments, in bytes: measured, 750 with its reference.
TASK_BYTES = 700


class Tasks:
    """The tasks on their way. In turn: dependencies, lease, worker, result. It says ``ended`` (a task is over with
    these results, which others may have to know before anybody sees them)."""

    def __init__(
        self,
        state: OwnerState,
        objects: Objects,
        streams: ItemStreams,
        arguments: Arguments,
        leases: Leases,
        ended: Callable[[TaskRec | CallRec, list[Result], Address], list[bytes]],
        events: OwnerEvents,
    ) -> None:
        self.events = events
        self.state, self.objects, self.streams, self.arguments, self.leases = state, objects, streams, arguments, leases
        self.addr, self.outbox, self.urgent = state.addr, state.outbox, state.urgent
        self.entries, self.tasks, self.origins, self.dirty = state.entries, state.tasks, state.origins, state.dirty
        self.ended = ended

    def submit(
        self, msg: Task, shape: Shape, retries: int, retry_exceptions: bool, holds: Sequence[bytes], parent: bytes = b""
    ) -> None:
        """A new task of ours. The entries of its return values are made here, each held once by the caller. ``parent``
        is the task that submits it."""
        size = len(msg.args) + TASK_BYTES
        task = msg.task
        rec = self.tasks[task] = TaskRec(msg, shape, retries, retry_exceptions, holds, size, parent)
        self.state.pending_bytes += size
        if msg.num_returns == 1:
            self.entries[task] = Entry(task, True, 1)
        else:
            self.streams.own_returns(task, msg.num_returns, msg.window)
        if msg.refs or holds:
            self.arguments.take(rec, msg.refs, holds)
            if rec.unresolved:
                return
        if msg.refs:
            self.resolved(rec)
            return
        self.leases.enqueue(rec)

    def has_place(self, task: bytes) -> bool:
        """Whether a task of ours was given to a worker, or is over."""
        rec = self.tasks.get(task)
        return rec is None or rec.lease is not None

    def resolved(self, rec: TaskRec) -> None:
        """All references among the task's arguments have values."""
        if rec.msg.task not in self.tasks:
            return  # it was cancelled while it waited for its arguments
        rec.msg.values, error = self.arguments.values(rec.msg.refs)
        if error is not None:
            self.fail(rec, passed_on(error, rec.msg.name))
        else:
            if rec.shape.strategy == "DEFAULT":
                node = best_node(rec.msg.values)
                if node:
                    rec.shape, new = near_shape(rec.shape, node)
                    if new:
                        self.leases.add_shape(rec.shape)
            self.leases.enqueue(rec)

    def done(self, src: Address, rec: TaskRec, msg: Done) -> None:
        """A task of ours has ended; what it gave is its value, or it is tried again."""
        lease = rec.lease
        if lease is not None:
            rec.lease = None
            shape = lease.shape
            inflight = lease.inflight
            inflight.pop(msg.task, None)
            if msg.run_us and rec.order > lease.told:
                lease.told = rec.order
            self.dirty[shape] = None
            mean = shape.mean_us = shape.mean_us * 0.75 + msg.run_us * 0.25
            shape.depth = 1 if mean > LONG_US else min(shape.max_depth, int(PIPELINE_US / (mean + 2.0)) + 1)
            if msg.exiting:
                self.leases.leave_worker(lease)
            else:
                if not lease.listed:
                    lease.listed = True
                    shape.idle.append(lease)
                if not inflight:
                    self.leases.idle[lease.ident] = lease
                    if lease.recalled and (lease.leaving or not shape.queue):
                        # Somebody waits for it: it is returned now, not after the usual while.
                        self.leases.give_back(lease)
                elif self.outbox.get(lease.worker):
                    self.urgent[lease.worker] = None
        if msg.retryable and rec.retries and rec.retry_exceptions and not rec.cancelled:
            self._retry(rec)
            return
        self._finish(rec, msg.results, src)

    def _finish(self, rec: TaskRec, results: list[Result], src: Address) -> None:
        task = rec.msg.task
        del self.tasks[task]
        self.state.pending_bytes -= rec.size
        if (
            rec.msg.num_returns == 1 and (result := results[0]).kind == INLINE
            and not (result.inner or rec.msg.refs or rec.holds or task in self.origins)
        ):  # fmt: skip
            # All that is to be done for most tasks.
            self.objects.set_result(task, result, True)
            return
        self.streams.seek(self.ended(rec, results, src))

    def fail(self, rec: TaskRec, error: Result) -> None:
        """The task is over with this error for each of its values."""
        self._finish(rec, [error] * max(1, rec.msg.num_returns), self.addr)

    def _retry(self, rec: TaskRec, charged: bool = True) -> None:
        if charged and rec.retries > 0:
            rec.retries -= 1
        rec.msg.attempt += 1
        rec.msg.ran += 1
        rec.shape.queue.appendleft(rec)
        self.dirty[rec.shape] = None

    def lease_lost(self, lease: LeasedWorker, running: bytes | None, cause: LostCause, why: str) -> None:
        """The worker that these tasks were on their way to is gone; see `Leases.lose`. Only the last that it began uses
        up a retry. Those before that have begun too, although their outcomes have not come: these waited to be sent.
        Unless they may run once only, they run again."""
        recs = list(lease.inflight.values())
        last = lease.told
        if running in lease.inflight:
            last = max(last, lease.inflight[running].order)
        lease.inflight.clear()
        untold = self.streams.untold
        self.objects.disown([ident for rec in recs for ident in untold(rec.msg)], lease.worker)
        for rec in reversed(recs):
            rec.lease = None
            begun = running is None or rec.order <= last
            if rec.cancelled:
                self.fail(rec, system_error("TaskCancelledError", "it was cancelled"))
            elif not retries_task(cause) or (begun and not rec.retries):
                self._note("TASK_FAILED", rec, f"has failed: {why}", lease.worker.node)
                self.fail(rec, system_error(task_error(cause), why, task=rec.msg.name))
            elif begun:
                self._note("TASK_RETRIED", rec, f"runs again: {why}", lease.worker.node)
                self._retry(rec, is_charged(cause) and running in (None, rec.msg.task))
            else:
                rec.msg.attempt += 1
                rec.shape.queue.appendleft(rec)
        self.dirty[lease.shape] = None

    def _note(self, kind: EventKind, rec: TaskRec, what: str, node: int) -> None:
        task = rec.msg.task
        self.events.note(kind, f"task {rec.msg.name} {task.hex()} {what}", node, task)

    def again(self, rec: TaskRec, charged: bool = True) -> None:
        """A finished task is run again, for the sake of a value that was lost."""
        if charged and rec.retries > 0:
            rec.retries -= 1
        rec.msg.attempt += 1
        rec.msg.ran += 1
        rec.msg.window = 0
        self.tasks[rec.msg.task] = rec
        self.state.pending_bytes += rec.size
        self.arguments.take(rec, rec.msg.refs, rec.holds)
        if not rec.unresolved:
            self.resolved(rec)
        self.dirty[rec.shape] = None
