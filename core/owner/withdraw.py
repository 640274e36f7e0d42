"""What is not wanted any more: tasks that are cancelled, and all that belongs to a placement group that was removed.

With it goes what it had: its place in the queue, its part of the demand, and leases that later tasks would have used.
"""

from __future__ import annotations

from hpc.core.ids import Address
from hpc.core.owner.leases import Leases
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import Shape, TaskRec
from hpc.core.owner.tasks import Tasks
from hpc.core.wire import Cancel, KillWorker, system_error

#: Placement groups that are remembered after they were removed.
MAX_GROUPS_GONE = 1024


class Withdraw:
    """Takes back what waits for workers."""

    def __init__(self, state: OwnerState, leases: Leases, tasks: Tasks) -> None:
        self.leases, self.submitted, self.send = leases, tasks, state.send
        self.tasks, self.shapes, self.groups_gone = state.tasks, state.shapes, state.groups_gone

    def group_gone(self, group: bytes, why: str) -> None:
        """A placement group was removed: what waits for a worker in it fails, and so does what is submitted later. What
        runs there is ended by its raylet."""
        self.groups_gone[group] = why
        if len(self.groups_gone) > MAX_GROUPS_GONE:
            del self.groups_gone[next(iter(self.groups_gone))]
        for shape in self.shapes:
            if shape.strategy[0] == "pg" and shape.strategy[1] == group and not shape.gone:
                shape.gone = why
                for lease in list(shape.leases.values()):
                    self.leases.leave(lease)
                self.leases.fail_shape(shape, "group_removed", why)

    def cancel(self, rec: TaskRec, force: bool, recursive: bool) -> None:
        """Cancel an unfinished task. What goes on although it was cancelled can be cancelled again."""
        rec.cancelled = True
        if rec.lease is None:
            self.submitted.fail(
                rec, system_error("TaskCancelledError", "it was cancelled before it started", task=rec.msg.name)
            )
            if not rec.unresolved:
                self._took_back(rec.shape)
        elif force:
            lease = rec.lease
            self.send(Address(lease.worker.node, 0), KillWorker(lease.worker, lease.ident, "cancelled by force"))
            self.leases.leave(lease)  # what else were sent there might die with it
        else:
            self.send(rec.lease.worker, Cancel(rec.msg.task, rec.msg.attempt, force, recursive))

    def cancel_children(self, parent: bytes) -> None:
        """Cancel what a task or call of this process has submitted and is not finished, and their children."""
        for rec in [rec for rec in self.tasks.values() if rec.parent == parent]:
            if self.tasks.get(rec.msg.task) is rec:  # it has not ended because another one did
                self.cancel(rec, False, True)

    def _took_back(self, shape: Shape) -> None:
        """A task in the queue was cancelled. Those go together when they are half of it, else with the next tick: until
        then workers are asked for that nobody needs."""
        shape.void += 1
        if 2 * shape.void > len(shape.queue):
            self._purge(shape)
            self.leases.ask(shape, exactly=True)

    def _purge(self, shape: Shape) -> None:
        shape.void = 0
        left = [rec for rec in shape.queue if self.tasks.get(rec.msg.task) is rec]
        shape.queue.clear()
        shape.queue.extend(left)

    def tick(self) -> None:
        """Tasks that were cancelled in a queue are taken out of it."""
        for shape in self.shapes:
            if shape.void:
                self._purge(shape)
