"""What the end of a job means that its own hpc-launch could not tell of: the exit code, and the words.

The scheduler knows how the job ended, the folder how far it had come. Whoever learns of such an end (a follower, `hpc
ps`) writes it into the folder, because the scheduler forgets it soon.
"""

from __future__ import annotations

import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.launch.jobdir import JobDir
from hpc.launch.status_line import line
from hpc.launchers.hostnames import compress_nodes
from hpc.launchers.jobscript import FAILED, FOLDER_FAILED, MODULE_FAILED
from hpc.launchers.scheduler import JobInfo
from hpc.settings import errors
from hpc.settings.errors import CliError

#: The first line of an error as hpc-launch writes it.
_ERROR = re.compile(r"error\[([A-Z-]+)\]: (.+)")


@dataclass(frozen=True)
class Verdict:
    """`code` is None where nobody knows; `error` says more where something went wrong."""

    code: int | None
    text: str
    error: CliError | None = None

    @property
    def why(self) -> str:
        return self.error.text() if self.error is not None else ""


def is_over(info: JobInfo) -> bool:
    """Whether nothing of a job goes on: it may still have nodes, which it loses soon."""
    return info.phase == "ended" or (info.ending == "lost" and not info.runs_again)


def has_begun(status: dict[str, Any]) -> bool:
    """Whether the job's hpc-launch has come as far as to write that it starts."""
    return status.get("state") not in ("queued", "submitting", None)


def judge(job: JobDir, info: JobInfo, status: dict[str, Any]) -> Verdict:
    """What to say of a job that is over."""
    job_id = info.job_id
    if info.ending == "cancelled":
        if status.get("state") != "running":
            what = f"job {job_id} was cancelled before it started"
            return _failed(CliError("CANCELLED", what), "cancelled")
        return Verdict(128 + signal.SIGTERM, line("ended", "cancelled"))
    if info.ending == "timeout":
        what = "the job's time was over before the script ended"
        return _failed(CliError("WALLTIME", what, fix="--time=TIME, longer"), "time limit")
    if info.ending == "lost":
        what = f"job {job_id} was lost" + (f" ({info.state})" if info.phase == "ended" else "")
        return _failed(CliError("SESSION-LOST", what, why=info.why), f"lost: {info.why}")
    code = info.exit_code or (128 + info.exit_signal if info.exit_signal else 0)
    said = "" if has_begun(status) else _said_by_script(job)
    if said:
        folder = said.startswith(FOLDER_FAILED)
        what = f"job {job_id} ended before the script was started"
        ours = _ERROR.fullmatch(said)
        if ours is not None and ours[1] in errors.CATALOGUE:
            return _failed(CliError(ours[1], what, why=ours[2]), ours[2])
        error = CliError("JOB-DIR" if folder else "SETUP", what, why=said.removeprefix("hpc: "))
        return _failed(error, "its folder is not there" if folder else "a module or a line of --setup failed")
    if not job.path.is_dir():
        what = f"the folder of job {job.number} is gone, and what the job wrote there"
        why = f"the scheduler says of job {job_id}: {info.state}, exit code {code}"
        return _failed(CliError("JOB-DIR", what, where=str(job.path), why=why), "its folder is gone")
    if not has_begun(status):
        shared = compress_nodes(info.nodes) or "the nodes"
        error = CliError(
            "JOB-DIR",
            f"job {job_id} ended ({info.state}, exit code {code}) before hpc-launch could write to its folder",
            where=str(job.path),
            why=f"the folder, this Python or the script's folder is not on a file system that {shared} share",
            fix="--job-dir=DIR, on a shared file system",
        )
        return _failed(error, f"{info.state} before hpc-launch could say so")
    why = "" if code else info.why
    return Verdict(code or errors.EXIT_SESSION_LOST, line("ended", info.state, f"exit code {code}", why))


def _said_by_script(job: JobDir) -> str:
    """What the job script said of its folder, a module, or a line of --setup. Or the error of its hpc-launch, which
    did not come into the folder. "" if nothing."""
    try:
        lines = Path(str(job.job().get("log", ""))).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    known = (FOLDER_FAILED, FAILED, MODULE_FAILED)
    return next((said for said in reversed(lines) if said.startswith(known) or _ERROR.fullmatch(said)), "")


def _failed(error: CliError, words: str) -> Verdict:
    return Verdict(error.exit_code, line("ended", words), error)


def write_down(job: JobDir, verdict: Verdict) -> None:
    """Into the folder, unless hpc-launch has said it better in the meantime. One that cannot be written (the disk is
    full) is left, and that is said: what the job wrote last is missing, too."""
    status = job.status()
    if status.get("state") == "ended":
        return
    now = round(time.time(), 1)
    fields = {"state": "ended", "text": verdict.text, "exit_code": verdict.code, "why": verdict.why, "updated": now}
    try:
        job.write("status.json", {**status, **fields})
        job.event("ended", exit_code=verdict.code, text=verdict.text)
    except OSError as error:
        what = f"the folder of job {job.number} cannot be written ({error.strerror or error})"
        errors.note(f"{what}: what it wrote last may be missing")
