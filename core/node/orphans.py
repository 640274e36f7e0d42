"""What workers leave behind: the programs that their tasks have started end with them.

A worker is a subreaper, so whatever is started below it stays below it, also after a double fork or setsid. When the
worker ends all of that becomes the zygote's, which is a subreaper too. So a child of the zygote that is no worker was
left by one that has ended. The end of a worker is told only when nothing is left. Then its resources are free indeed,
and no program of it computes on a GPU that another worker has by now. Programs get SIGTERM and a moment to clear up,
then SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Collection

from hpc.core.node.reap import children_of, descendants, signal_all

#: Between SIGTERM and SIGKILL. Python's tracker of shared memory needs a moment to remove what was left. It is counted
#: in our own looks: where the machine stood still, nobody had the time.
GRACE_S = 0.3
#: A process that the kernel does not end (it waits for a disk or a driver) is not waited for longer.
END_S = 5.0
LOOK_S = 0.02

Ended = tuple[int, int, int]


class Orphans:
    """The ends of workers that are not told yet, and the programs that are in the way. ``workers`` are the zygote's
    children that are none of them; ``tell`` is called with (proc, pid, status)."""

    def __init__(self, workers: Collection[int], tell: Callable[[int, int, int], None]) -> None:
        self._workers = workers
        self._tell = tell
        self._untold: list[Ended] = []
        self._looked_at: float | None = None
        self._given_s = 0.0
        self._termed: set[int] = set()
        #: What could not be ended.
        self._beyond: set[int] = set()

    def worker_ended(self, proc: int, pid: int, status: int) -> None:
        """A worker has ended; `look` tells it."""
        self._untold.append((proc, pid, status))

    def look(self, now: float) -> float | None:
        """Tell what can be told; returns after how many seconds to look again, None if nothing is to be done."""
        if not self._untold:
            return None
        roots = self._roots() or self._roots()  # the kernel may miss one whose neighbour in its list just ended
        if roots:
            if self._looked_at is not None:
                self._given_s += min(now - self._looked_at, 2 * LOOK_S)
            self._looked_at = now
            below = [pid for root in roots for pid in (root, *descendants(root))]
            if self._given_s < GRACE_S:
                new = [pid for pid in below if pid not in self._termed]
                self._termed.update(new)
                signal_all(new, signal.SIGTERM)
                signal_all(new, signal.SIGCONT)
                return LOOK_S
            signal_all(below, signal.SIGKILL)
            if self._given_s < END_S:
                return LOOK_S
            print(f"processes that ended workers left and that cannot be ended: {below}", file=sys.stderr)
            self._beyond.update(roots)
        self._looked_at, self._given_s = None, 0.0
        self._termed.clear()
        untold, self._untold = self._untold, []
        for proc, pid, status in untold:
            self._tell(proc, pid, status)
        return None

    def _roots(self) -> list[int]:
        return [pid for pid in children_of(os.getpid()) if pid not in self._workers and pid not in self._beyond]
