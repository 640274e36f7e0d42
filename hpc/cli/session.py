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
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpc.host.find import HostInfo, SeveralSessions, bases, find_host
from hpc.launch import jobdir
from hpc.launch.jobdir import JobDir
from hpc.launchers.run import Background
from hpc.launchers.scheduler import Command, NoAnswer
from hpc.settings import errors
from hpc.settings.errors import CliError

#: How long a step in a job may take to say how its session is.
THERE_S = 30.0
LAST_WORDS_S = 1.0
LOOK_S = 0.05


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection as a guest; CliError where there is no session."""
    import hpc
    from hpc.api.init import join_as_guest

    try:
        join_as_guest(address or "auto")
    except ConnectionError as error:
        raise no_session(error, fix="hpc start --head, or a script that is running") from None
    try:
        yield
    except ConnectionError as error:
        raise CliError("SESSION-LOST", "the session has ended in the meantime", why=str(error)) from None
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


def is_jobs(base: Path, *, or_started: bool = False) -> bool:
    """Whether the session that is meant is that of the newest job, as seen from outside of it. With ``or_started``
    those of `hpc start` count, which have folders, too."""
    newest = jobdir.jobs(base)[-1:]
    if os.environ.get("HPC_SESSION_DIR") or not newest or not address_of(newest[0]):
        return False
    return or_started or newest[0].job().get("kind") != jobdir.SESSION


def look_into(job: JobDir) -> dict[str, Any] | None:
    """What `hpc status` says of the session of a job that runs; None where it cannot be asked."""
    from hpc.state.overview import session_overview

    address = address_of(job)
    try:
        if address:
            with connected(address):
                return session_overview()
        return _looked_into_there(job) if is_elsewhere(job) else None
    except (CliError, NoAnswer) as error:
        what = f"{error}: {error.why}" if isinstance(error, CliError) and error.why else str(error)
        errors.note(f"the session of job {job.number} cannot be looked into: {what}".splitlines()[0])
        return None


def _looked_into_there(job: JobDir) -> dict[str, Any]:
    """The same from a node of the job. One that ends takes its sessions with it: nobody waits for their answer then."""
    command = _command_there(job, ["status", "--json"])
    asked = Background(command.argv, timeout_s=THERE_S, env=command.env)
    try:
        ended_s: float | None = None
        while (answer := asked.poll()) is None:
            if job.status().get("state") != "running":
                ended_s = ended_s or time.monotonic() + LAST_WORDS_S
                if time.monotonic() > ended_s:
                    raise CliError("SESSION-LOST", "it has just ended")
            time.sleep(LOOK_S)
    finally:
        asked.close()
    try:
        found: dict[str, Any] = json.loads(answer.out)
    except ValueError:
        said = [line.strip() for line in answer.err.splitlines() if line.strip()]
        raise CliError("SESSION-LOST", "it did not answer", why=said[-1] if said else answer.why()) from None
    return found


def run_there(job: JobDir, words: Sequence[str]) -> int:
    """Run `hpc WORDS` on the node where the job's hpc-launch is, with its session as the address; the exit code."""
    try:
        command = _command_there(job, words)
        return subprocess.run(command.argv, env=command.env, check=False, stdin=subprocess.DEVNULL).returncode
    except OSError as error:
        what = f"{jobdir.scheduler_of(job).starts_with} could not look into job {job.scheduler_id()}"
        raise CliError("SCHEDULER-DOWN", what, why=str(error)) from None
    except NoAnswer as no:
        what = f"the session of job {job.number} cannot be looked into from here"
        raise CliError("NO-SESSION", what, why=str(no)) from None


def _command_there(job: JobDir, words: Sequence[str]) -> Command:
    status = job.status()
    host = str(status.get("node_name") or status.get("host"))
    argv = [sys.executable, "-m", "hpc", *words, f"--address={status.get('node_dir')}"]
    return jobdir.scheduler_of(job).run_in(job.scheduler_id(), host, argv, str(job.path))
