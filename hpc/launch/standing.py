"""How jobs stand: what their folders say, corrected by their schedulers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hpc.launch import jobdir
from hpc.launch.jobdir import JobDir
from hpc.launchers.registry import SCHEDULERS
from hpc.launchers.scheduler import JobInfo, NoAnswer
from hpc.settings import errors


def standing(jobs: Sequence[JobDir]) -> list[dict[str, Any]]:
    """One row per job: what its folder says, corrected by one question to the scheduler for those not ended."""
    rows = [_row(job) for job in jobs]
    asked: dict[str, list[dict[str, Any]]] = {}  # by scheduler
    for job, row in zip(jobs, rows, strict=True):
        if row["state"] != "ended" and row["kind"] == "submitted" and row["scheduler_id"]:
            asked.setdefault(str(job.job().get("scheduler", "")), []).append(row)
    for name, mine in asked.items():
        seen = _ask(name, [row["scheduler_id"] for row in mine])
        for row in mine:
            if row["scheduler_id"] in seen:
                _correct(row, seen[row["scheduler_id"]])
            elif seen:
                row["state"], row["text"] = "lost", "not known to the scheduler any more"
    return rows


def _row(job: JobDir) -> dict[str, Any]:
    content, status = job.job(), job.status()
    state = str(status.get("state", "unknown"))
    if content.get("kind") == "here" and state != "ended" and jobdir.over(job):
        state = "lost"
    since = float(content.get("created", 0.0))
    until = float(status.get("updated", since)) if state in ("ended", "lost") else time.time()
    return {
        "job": job.number, "scheduler_id": str(content.get("scheduler_id", "")), "name": content.get("name", ""),
        "kind": content.get("kind", ""), "state": state, "nodes": status.get("nodes_ready", content.get("nodes")),
        "age_s": round(max(0.0, until - since), 1), "exit_code": status.get("exit_code"), "reason": "",
        "left_s": status.get("left_s"),
        "text": status.get("text", ""), "why": status.get("why", ""), "missing": status.get("missing", []),
        "log": content.get("log", ""), "folder": str(job.path), "host": status.get("host", ""),
    }  # fmt: skip


def _ask(name: str, ids: Sequence[str]) -> Mapping[str, JobInfo]:
    scheduler = SCHEDULERS.get(name)
    if scheduler is None:
        errors.note(f"the scheduler {name!r} is not known here; states are as last written")
        return {}
    try:
        return scheduler.states(ids)
    except NoAnswer as silence:
        errors.note(f"the scheduler does not answer ({silence}); states are as last written")
        return {}


def _correct(row: dict[str, Any], info: JobInfo) -> None:
    if info.phase == "queued":
        row["state"], row["reason"] = "queued", info.reason
        row["text"] = f"queued    {info.why}"
    elif info.phase == "running":
        shown = info.left and row["left_s"] is None and row["state"] == "running"
        row["text"] += f"  left {info.left}" if shown else ""
    else:
        row["state"] = "ended"
        row["text"] = row["why"] = f"{info.state}: {info.why}"
