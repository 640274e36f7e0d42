"""The time limit of the job that a session runs in: kept by whoever drives the session."""

from __future__ import annotations

from collections.abc import Callable

from hpc.launchers.loop import SessionLoop
from hpc.launchers.registry import Place
from hpc.launchers.timekeeper import Timekeeper


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
