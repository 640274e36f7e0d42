"""Ending a job from outside: by its scheduler when it was submitted, by a signal when it runs on this machine."""

from __future__ import annotations

import os
import signal
import socket

from hpc.launch.chain import link_of
from hpc.launch.jobdir import JobDir, has_ended, over, process_is, scheduler_of
from hpc.launchers.batch_jobs import withdraw_recorded
from hpc.launchers.scheduler import NoAnswer, Scheduler
from hpc.settings.errors import CliError


def cancel_job(job: JobDir) -> str:
    """End one job; says what was done. CliError when it cannot be reached."""
    content, status = job.job(), job.status()
    if has_ended(status) or over(job):
        return "has ended already"
    if content.get("kind") == "submitted":
        job_id = job.scheduler_id()
        scheduler = scheduler_of(job)
        if not job_id:
            where = f"{scheduler.submits_with} never said its id"
            raise CliError("NO-JOB", f"job {job.number} was not submitted, as far as is known", where=where)
        if status.get("state") == "ended" and not _waits_or_runs(scheduler, job_id):
            return "has ended already"
        reply = scheduler.cancel(job_id)
        if not reply.ok and not reply.unknown:
            raise CliError("SCHEDULER-DOWN", f"job {job_id} could not be cancelled", why=reply.why)
        job.event("cancelled")
        withdraw_recorded(job.path, scheduler)
        link = link_of(job)
        if link is not None:
            link.withdraw_rest(scheduler)
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


def _waits_or_runs(scheduler: Scheduler, job_id: str) -> bool:
    """Of a job that ended once and may have been put back into the queue."""
    try:
        info = scheduler.states([job_id]).get(job_id)
    except NoAnswer:
        return True
    return info is not None and info.phase != "ended"
