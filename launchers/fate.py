"""What became of the job that we run in, when a session in it is lost: its scheduler knows who ended it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from hpc.launchers.registry import SCHEDULERS, job_of
from hpc.launchers.scheduler import JobInfo, Scheduler

#: A job that loses its nodes ends within this time, or the loss was not its end.
END_S = 3.0
ASK_S, LOOK_S = 0.3, 0.02
_WORDS = {"cancelled": "was cancelled", "timeout": "has reached its time limit", "lost": "was lost"}


def fate(env: Mapping[str, str] | None = None) -> str:
    """`TITLE: job 12 was cancelled (STATE)`; "" where the job goes on, there is none, or no answer. It may wait."""
    job = job_of(os.environ if env is None else env)
    scheduler = SCHEDULERS.get(job.get("scheduler", ""))
    end_s = time.monotonic() + END_S
    while scheduler is not None and time.monotonic() < end_s:
        info = _asked(scheduler, job["job_id"], end_s)
        if info is not None and info.phase == "ended":
            return f"{scheduler.title}: {_said(info)}"
        time.sleep(ASK_S)
    return ""


def _asked(scheduler: Scheduler, job_id: str, end_s: float) -> JobInfo | None:
    inquiry = scheduler.inquire(job_id, position=False)
    try:
        while (news := inquiry.poll()) is None and time.monotonic() < end_s:
            time.sleep(LOOK_S)
        return news.info if news is not None else None
    finally:
        inquiry.close()


def _said(info: JobInfo) -> str:
    words = _WORDS.get(info.ending, "has ended")
    more = f": {info.why}" if info.ending == "lost" and info.why else ""
    return f"job {info.job_id} {words} ({info.state}){more}"
