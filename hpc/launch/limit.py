"""The time limit of the job that a session runs in: kept by whoever drives the session."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from hpc.launch.taken import TAKEN, Taken
from hpc.launchers.loop import SessionLoop
from hpc.launchers.registry import Place
from hpc.launchers.scheduler import JobInfo
from hpc.launchers.timekeeper import Timekeeper

DRAIN_S = 60.0  # so long before the limit nothing new begins (less in a short job: this share of it)
DRAIN_SHARE = 0.2


def drain_time(left_s: float | None) -> float:
    """How long before the time limit a session drains, where nobody has said it."""
    return DRAIN_S if left_s is None else min(DRAIN_S, DRAIN_SHARE * left_s)


def keep_time(
    loop: SessionLoop,
    place: Place,
    ask_s: float,
    *,
    left_s: float | None = None,
    on_change: Callable[[], object] | None = None,
) -> Timekeeper:
    """Begin to keep the time of the session's job. ask_s: how often to ask. left_s: what is known already."""
    alloc = place.alloc
    ask = None
    if alloc is not None:
        scheduler, job_id = place.scheduler, alloc.job_id
        ask = lambda: scheduler.inquire(job_id, position=False)  # noqa: E731
    return Timekeeper(loop, ask, left_s=left_s, ask_s=ask_s, on_change=on_change)


class Drains:
    """Has a session drain that nobody launched with hpc-launch: before its job's time limit, at a warning, or when its
    nodes are taken away.

    drain_s: so long before the limit; None: as long as hpc-launch would, 0: never. grace_s: how long nodes stay that
    are taken and of which the scheduler says nothing. note: called with what people are to know.
    """

    def __init__(
        self,
        loop: SessionLoop,
        place: Place,
        *,
        ask_s: float,
        left_s: float | None = None,
        drain_s: float | None = None,
        grace_s: float = 5.0,
        note: Callable[[str], object],
    ) -> None:
        self.loop, self.note = loop, note
        self.began = False
        self.clock = keep_time(loop, place, ask_s, left_s=left_s, on_change=self._on_new_limit)
        self._own = drain_s is None
        before_s = drain_time(left_s) if drain_s is None else drain_s
        self._moment = None
        if before_s > 0:
            self._moment = self.clock.before_end(before_s, lambda: self.begin("the time limit comes near"))
        self._grace_s = grace_s
        self._taken = Taken(loop, place, grace_s, self._on_taken, note)

    def begin(self, why: str, left_s: float | None = None, *, taken: bool = False) -> None:
        """Drain now; said again it changes nothing. ``taken``: the nodes are for another job."""
        if self.began:
            return
        self.began = True
        left_s = self.clock.left_s if left_s is None else left_s
        self.note(f"hpc: the session drains ({why}): nothing new begins")
        self.loop.session.tell_head({"op": "time", "left_s": left_s, "drain": why, "taken": taken})

    def _on_new_limit(self) -> None:
        if self._own and self._moment is not None:
            self._moment.before_s = drain_time(self.clock.left_s)

    def _on_taken(self, job: JobInfo | None, signal_name: str) -> None:
        """The node with the head is told to end, and so is the session."""
        if job is not None and job.preempted:
            self.begin(TAKEN, job.time_left_s, taken=True)
            self.clock.learn(job)
        else:
            self.begin(f"{signal_name} to the nodes", self._grace_s)
            stop = partial(self.loop.session.begin_stop, 1.0, f"{signal_name} to the nodes")
            self.loop.at(time.monotonic() + self._grace_s, stop)
