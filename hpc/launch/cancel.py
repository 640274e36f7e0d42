"""Ending a job from outside: by its scheduler when it was submitted, by a signal when it runs on this machine."""

from __future__ import annotations

import os
import signal
import socket

from hpc.launch.jobdir import JobDir, over, process_is, scheduler_of
from hpc.settings.errors import CliError


def cancel_job(job: JobDir) -> str:
    """End one job; says what was done. CliError when it cannot be reached."""
    content, status = job.job(), job.status()
    if status.get("state") == "ended" or over(job):
        return "has ended already"
    if content.get("kind") == "submitted":
        job_id = str(content.get("scheduler_id", ""))
        scheduler = scheduler_of(job)
        reply = scheduler.cancel(job_id)
        if not reply.ok and not reply.unknown:
            raise CliError("SCHEDULER-DOWN", f"job {job_id} could not be cancelled", why=reply.why)
        job.event("cancelled")
        return f"cancelled ({scheduler.title} job {job_id})" if reply.ok else "has ended already"
    host, pid = str(status.get("host", "")), int(status.get("pid", 0))
    if host != socket.gethostname():
        raise CliError("NOT-OURS", f"job {job.number} runs on {host}", fix=f"ssh {host} hpc cancel {job.number}")
    if not process_is(pid, int(status.get("born", 0))):
        return "has ended already"
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError as error:
        raise CliError("NOT-OURS", f"process {pid} cannot be signalled", why=str(error)) from None
    return f"asked to end (process {pid})"
