"""The workers of a node that wait for work, and which of them a lease gets.

Tasks take a worker that has run tasks, if there is one. An actor takes one that has run nothing: the process ends with
it, and with the process what tasks have put there. So does a task with accelerators. A library that was used where no
device was visible may have found that there are none, and looks only once.
"""

from __future__ import annotations

from collections.abc import Iterator

from hpc.core.raylet.tables import Lease, Proc

#: An idle worker beyond the node's CPUs is ended after this time.
IDLE_WORKER_S = 30.0


class Pool:
    """Idle workers, those that have waited longest first."""

    def __init__(self) -> None:
        self._idle: list[Proc] = []

    def __len__(self) -> int:
        return len(self._idle)

    def __iter__(self) -> Iterator[Proc]:
        return iter(self._idle)

    def add(self, worker: Proc, now: float) -> None:
        """One has nothing to do from now on."""
        worker.state = "idle"
        worker.idle_since = now
        self._idle.append(worker)

    def discard(self, worker: Proc) -> None:
        """One has ended, if it was here."""
        if worker in self._idle:
            self._idle.remove(worker)

    def take(self, lease: Lease) -> Proc | None:
        """The worker for this lease, if there is one."""
        fresh = lease.actor or bool(lease.grant.shares)
        found = -1
        for at in range(len(self._idle) - 1, -1, -1):
            worker = self._idle[at]
            if worker.env == lease.env and not (fresh and worker.used):
                found = at
                if fresh or worker.used:
                    break
        if found < 0:
            return None
        worker = self._idle.pop(found)
        worker.used = True
        return worker

    def take_all(self) -> list[Proc]:
        """All of them, which nobody may lease any more."""
        gone, self._idle = self._idle, []
        return gone

    def take_surplus(self, keep: int, now: float) -> list[Proc]:
        """The workers beyond ``keep`` that have been idle for too long."""
        gone: list[Proc] = []
        while len(self._idle) > keep and now - self._idle[0].idle_since > IDLE_WORKER_S:
            gone.append(self._idle.pop(0))
        return gone
