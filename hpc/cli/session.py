"""Being a guest in a session that runs: by its id, the only one here, or that of a job.

A job's session is on its nodes. Where one of them is this machine its directory is here. Else the same command is run
there, in the job's own allocation, by its scheduler. Rejected: a connection from the login node (nodes often cannot be
reached from there, and the session's keys would have to leave its nodes).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpc.host.find import HostInfo, SeveralSessions, bases, find_host
from hpc.launch import jobdir
from hpc.launch.jobdir import JobDir
from hpc.launchers.scheduler import NoAnswer
from hpc.settings import errors
from hpc.settings.errors import CliError

#: How long a step in a job may take to say how its session is.
THERE_S = 30.0


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection as a further driver, which prints nothing of the workers'; CliError where there is no session."""
    import hpc

    try:
        hpc.init(address=address or "auto", log_to_driver=False)
    except ConnectionError as error:
        raise no_session(error, fix="hpc start --head, or a script that is running") from None
    try:
        yield
    finally:
        hpc.shutdown()


def no_session(error: ConnectionError, *, flag: str = "--address", fix: str = "") -> CliError:
    """No session is meant, or which one is not clear: then the fix names one by the option for that."""
    sessions = error.sessions if isinstance(error, SeveralSessions) else []
    return CliError("NO-SESSION", str(error), fix=f"{flag}={sessions[0]}" if sessions else fix)


def host_named(address: str | None, flag: str = "--address") -> HostInfo:
    """The host of a session that `hpc start` began here; CliError where no one session is meant."""
    try:
        return find_host(address)
    except ConnectionError as error:
        raise no_session(error, flag=flag) from None


def address_of(job: JobDir) -> str:
    """The node directory on this machine of a job's session; "" where it has ended or is elsewhere."""
    status = job.status()
    path = str(status.get("node_dir", ""))
    here = status.get("host") == socket.gethostname() and status.get("state") == "running" and not jobdir.over(job)
    return path if here and path and os.path.exists(os.path.join(path, "raylet.sock")) else ""


def is_elsewhere(job: JobDir) -> bool:
    """Whether the job's session runs on nodes that this machine is none of, as far as its folder says."""
    status = job.status()
    runs = status.get("state") == "running" and job.job().get("kind") == "submitted"
    return runs and bool(status.get("node_dir")) and status.get("host") != socket.gethostname()


def is_there() -> bool:
    """Whether a command without a job or an address means a session. It does if this process is in one, or if this user
    has one on this machine. Where there are several, one has to be named."""
    from hpc.core.node import rundir

    if os.environ.get("HPC_SESSION_DIR"):
        return True
    places = bases()
    live = [one for one in rundir.live_sessions() if os.path.dirname(os.path.abspath(str(one["dir"]))) in places]
    return bool(live)


def is_jobs(base: Path) -> bool:
    """Whether the session that is meant is that of the newest job, as seen from outside of it."""
    newest = jobdir.jobs(base)[-1:]
    return not os.environ.get("HPC_SESSION_DIR") and bool(newest) and bool(address_of(newest[0]))


def look_into(job: JobDir) -> dict[str, Any] | None:
    """What `hpc status` says of the session of a job that runs; None where it cannot be asked."""
    from hpc.cli import session_status

    address = address_of(job)
    if address:
        with connected(address):
            return session_status.gathered()
    if not is_elsewhere(job):
        return None
    try:
        done = _there(job, ["status", "--json"], capture_output=True, text=True, timeout=THERE_S)
    except NoAnswer as no:
        errors.note(f"the session of job {job.number} cannot be looked into from here: {no}")
        return None
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        errors.note(f"the session of job {job.number} cannot be looked into: {done.stderr.strip()[-500:]}")
        return None
    return found


def run_there(job: JobDir, words: Sequence[str]) -> int:
    """Run `hpc WORDS` on the node where the job's hpc-launch is, with its session as the address; the exit code."""
    try:
        return _there(job, words).returncode
    except NoAnswer as no:
        what = f"the session of job {job.number} cannot be looked into from here"
        raise CliError("NO-SESSION", what, why=str(no)) from None


def _there(job: JobDir, words: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
    status = job.status()
    job_id = str(job.job().get("scheduler_id", ""))
    scheduler = jobdir.scheduler_of(job)
    host = str(status.get("node_name") or status.get("host"))
    command = scheduler.run_in(
        job_id, host, [sys.executable, "-m", "hpc", *words, f"--address={status.get('node_dir')}"]
    )
    try:
        return subprocess.run(command.argv, env=command.env, check=False, stdin=subprocess.DEVNULL, **more)
    except (OSError, subprocess.TimeoutExpired) as error:
        what = f"{scheduler.starts_with} could not look into job {job_id}"
        raise CliError("SCHEDULER-DOWN", what, why=str(error)) from None
