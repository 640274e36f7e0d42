"""What is not wanted any more: tasks that are cancelled, and all that belongs to a placement group that was removed.

What it had goes with it: its place in the queue and so its part of the demand, and the leases that later tasks of the
same shape would have used.
"""

from __future__ import annotations

from hpc.core.ids import Address
from hpc.core.owner.state import Sender
from hpc.core.owner.tables import Shape
from hpc.core.owner.tasks import TaskSubmitter
from hpc.core.wire import Cancel, KillWorker, system_error

#: Placement groups that are remembered after they were removed.
MAX_GROUPS_GONE = 1024


class WithdrawTable(TaskSubmitter):
    """The part of a submitter that withdraws."""

    def __init__(self, addr: Address, job: bytes = b"", idle_lease_s: float = 0.1, send: Sender | None = None) -> None:
        super().__init__(addr, job, idle_lease_s, send)
        #: Placement groups that were removed lately, and what is said of them.
        self.groups_gone: dict[bytes, str] = {}

    def add_shape(self, shape: Shape) -> Shape:
        if self.groups_gone:
            self._forget_gone()
        if shape.strategy[0] == "pg":
            shape.gone = self.groups_gone.get(shape.strategy[1], "")
        return super().add_shape(shape)

    def _forget_gone(self) -> None:
        """Shapes of groups that were removed, with nothing left of what was asked for by them. A task or an actor that
        still has one fails by it: it knows that its group is gone."""
        over = {one for one in self.shapes if one.gone and not (one.queue or one.actors or one.leases or one.want)}
        if over:
            self.shapes = [one for one in self.shapes if one not in over]
            self.requests = {req: one for req, one in self.requests.items() if one not in over}

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
                    self._leave(lease)
                self._fail_shape(shape, "group_removed", why)

    def cancel(self, ident: bytes, force: bool, recursive: bool) -> bool:
        """Cancel the task that makes this object; False if it is not a task of ours that is still unfinished. What
        goes on although it was cancelled can be cancelled again."""
        rec = self.tasks.get(self.maker_of(ident))
        if rec is None:
            return False
        rec.cancelled = True
        if rec.lease is None:
            self._fail(rec, system_error("TaskCancelledError", "it was cancelled before it started", task=rec.msg.name))
            if not rec.unresolved:
                self._took_back(rec.shape)
        elif force:
            lease = rec.lease
            self.send(Address(lease.worker.node, 0), KillWorker(lease.worker, lease.ident, "cancelled by force"))
            self._leave(lease)  # what else were sent there might die with it
        else:
            self.send(rec.lease.worker, Cancel(rec.msg.task, rec.msg.attempt, force, recursive))
        return True

    def cancel_children(self, parent: bytes) -> None:
        """Cancel what a task or call of this process has submitted and is not finished, and their children."""
        for task in [t for t, rec in self.tasks.items() if rec.parent == parent]:
            self.cancel(task, False, True)

    def _took_back(self, shape: Shape) -> None:
        """A task in the queue was cancelled. Those go together when they are half of it, else with the next tick: until
        then workers are asked for that nobody needs."""
        shape.void += 1
        if 2 * shape.void > len(shape.queue):
            self._purge(shape)
            self._ask(shape, exactly=True)

    def _purge(self, shape: Shape) -> None:
        shape.void = 0
        left = [rec for rec in shape.queue if self.tasks.get(rec.msg.task) is rec]
        shape.queue.clear()
        shape.queue.extend(left)

    def tick(self, now: float) -> float:
        for shape in self.shapes:
            if shape.void:
                self._purge(shape)
        return super().tick(now)
