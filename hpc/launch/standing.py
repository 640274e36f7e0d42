"""How jobs stand: what their folders say, corrected by their schedulers."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpc.launch import jobdir
from hpc.launch.jobdir import JobDir
from hpc.launch.status_line import line, shown
from hpc.launch.verdict import Verdict, is_over, judge, write_down
from hpc.launchers.registry import SCHEDULERS
from hpc.launchers.scheduler import JobInfo, NoAnswer
from hpc.settings import errors

#: A submission takes no longer than this; one from another machine without an end is believed to have been interrupted.
SUBMISSION_S = 300.0
FORGOTTEN_S = 86400.0
LATE_S = 60.0
#: Of the jobs that have ended as many are shown.
FEW = 5


def standing(jobs: Sequence[JobDir]) -> list[dict[str, Any]]:
    """One row per job: what its folder says, corrected by one question to the scheduler for those not ended."""
    rows = [_row(job) for job in jobs]
    asked: dict[str, list[tuple[JobDir, dict[str, Any]]]] = {}  # by scheduler
    for job, row in zip(jobs, rows, strict=True):
        if row["kind"] != "submitted" or jobdir.has_ended(job.status()):
            continue
        if row["scheduler_id"]:
            asked.setdefault(str(job.job().get("scheduler", "")), []).append((job, row))
        elif row["state"] == "queued":
            _submission(job, row)
    for name, mine in asked.items():
        seen = _ask(name, [row["scheduler_id"] for _, row in mine])
        for job, row in mine:
            if seen is not None:
                _correct(job, row, seen.get(row["scheduler_id"]))
    for row in rows:
        row["age_s"] = round(max(0.0, (row.pop("until") or time.time()) - row.pop("since")), 1)
    return rows


def recent(base: Path, everything: bool = False) -> list[dict[str, Any]]:
    """The same of the jobs in a folder that run or wait, and of the last few; or of all."""
    jobs = jobdir.jobs(base)
    if not everything:
        going = [job for job in jobs if not (jobdir.has_ended(job.status()) or jobdir.over(job))]
        jobs = sorted({job.number: job for job in [*going, *jobs[-FEW:]]}.values(), key=lambda job: job.number)
    return standing(jobs)


def _row(job: JobDir) -> dict[str, Any]:
    content, status = job.job(), job.status()
    state = str(status.get("state", "unknown"))
    if content.get("kind") in jobdir.OF_THIS_MACHINE and state != "ended" and jobdir.over(job):
        state = "lost"
    updated = float(status.get("updated", 0.0))
    return {
        "job": job.number, "scheduler_id": job.scheduler_id(), "name": content.get("name", ""),
        "kind": content.get("kind", ""), "state": state, "nodes": status.get("nodes_ready", content.get("nodes")),
        "exit_code": status.get("exit_code"), "reason": "", "left_s": status.get("left_s"),
        "text": shown(status, time.time() - updated), "why": status.get("why", ""),
        "missing": status.get("missing", []),
        "log": job.output(), "folder": str(job.path), "host": status.get("host", ""),
        "since": float(content.get("created", 0.0)), "until": updated if state in ("ended", "lost") else 0.0,
    }  # fmt: skip


def _submission(job: JobDir, row: dict[str, Any]) -> None:
    """A job whose scheduler has not said its id: whoever submits it waits for that, or was interrupted."""
    content = job.job()
    here = content.get("host") == socket.gethostname()
    lives = here and jobdir.process_is(int(content.get("pid", 0)), int(content.get("born", 0)))
    if lives or (not here and time.time() < float(content.get("created", 0.0)) + SUBMISSION_S):
        row["state"] = "submitting"
        return
    said = f"{_title(job)} may have the job all the same, and it tells its id here when it starts"
    _over(job, row, Verdict(None, line("ended", "its submission was interrupted"), None), said)


def _title(job: JobDir) -> str:
    scheduler = SCHEDULERS.get(str(job.job().get("scheduler", "")))
    return scheduler.title if scheduler is not None else "the scheduler"


def _ask(name: str, ids: Sequence[str]) -> Mapping[str, JobInfo] | None:
    """None where there is no answer."""
    scheduler = SCHEDULERS.get(name)
    if scheduler is None:
        errors.note(f"the scheduler {name!r} is not known here; states are as last written")
        return None
    try:
        return scheduler.states(ids)
    except NoAnswer as silence:
        errors.note(f"the scheduler does not answer ({silence}); states are as last written")
        return None


def _correct(job: JobDir, row: dict[str, Any], info: JobInfo | None) -> None:
    """A row whose job has not ended, as far as its folder knows, by what the scheduler says; None: it knows no such
    job. What has ended is written into the folder: the scheduler forgets it."""
    status = job.status()
    if info is not None and status.get("runs_again"):
        info = replace(info, runs_again=True)
    if status.get("state") == "ended" and (info is None or info.phase == "ended"):
        with suppress(OSError):  # it was not put back into the queue, and will not be any more
            job.write("status.json", {**status, "runs_again": False})
    elif info is None:
        _lose(job, row, status)
    elif is_over(info):
        _over(job, row, judge(job, info, status))
    elif info.phase == "queued":
        row |= {"state": "queued", "reason": info.reason, "text": line("queued", info.why)}
        row |= {"exit_code": None, "until": 0.0}
    elif info.ending == "lost":
        row |= {"text": line(row["state"], "lost, and put back into the queue soon"), "why": info.why}
    elif info.stopped:
        row |= {"state": "suspended", "text": line("suspended", f"{_title(job)} has stopped it for a while")}
    elif status.get("state") == "ended":
        row |= {"state": "starting", "text": line("starting"), "exit_code": None, "until": 0.0}
    elif info.left and row["left_s"] is None and row["state"] == "running":
        row["text"] += f"  left {info.left}"


def _lose(job: JobDir, row: dict[str, Any], status: dict[str, Any]) -> None:
    """The scheduler does not know a job of which the folder has no end: long ago, or this is another cluster."""
    last = float(status.get("updated", 0.0)) or row["since"]
    row |= {"state": "lost", "text": f"not known to {_title(job)} any more", "until": last}
    if time.time() > last + FORGOTTEN_S:
        write_down(job, Verdict(None, line("ended", row["text"])))


def _over(job: JobDir, row: dict[str, Any], verdict: Verdict, why: str = "") -> None:
    """A job has ended, and its hpc-launch did not say so. It may have, a moment ago: that comes late by some file
    servers, so only what is older is written down."""
    row |= {"state": "ended", "text": verdict.text, "exit_code": verdict.code, "why": why or verdict.why}
    row["until"] = row["until"] or time.time()
    if time.time() > float(job.status().get("updated", 0.0)) + LATE_S:
        write_down(job, verdict)
