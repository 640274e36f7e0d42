"""The jobs of a session: entrypoints that its host starts, watches and ends.

The host does it, and not an actor. An actor dies with its owner and with its node, and then somebody has to find out
what became of the entrypoints. If the host dies the session ends anyway, so nobody is left who could ask.

What is known of each job is also in the head's key-value store, for whoever is connected to the session. It is in the
namespace `_hpc_jobs`, one JSON value a job. The host's table is the truth; the store gets it as soon as the head takes
it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hpc.core.exceptions import HpcError
from hpc.core.node.reap import describe_code
from hpc.core.node.tail import last_lines
from hpc.host.ask import kv_delete, kv_put
from hpc.host.entry import start_entrypoint

KV_NAMESPACE = "_hpc_jobs"
STOP_GRACE_S = 3.0
RETRY_S = 2.0
#: Where a job is; Ray's words.
JobState = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}\Z")


class JobError(Exception):
    """The request makes no sense; the text says why."""


@dataclass
class Job:
    """One job. `message` says how it stands, after a failure with the last lines that it wrote. Times are milliseconds
    since 1970, as in Ray's job API; 0 is "not yet". `driver_exit_code` is -N where signal N ended it, None before its
    end and where it was asked to stop."""

    submission_id: str
    entrypoint: str
    status: JobState = "PENDING"
    message: str = "it has not started yet"
    error_type: str = ""
    start_time: int = 0
    end_time: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    runtime_env: dict[str, Any] = field(default_factory=dict)
    driver_exit_code: int | None = None
    driver_node_id: str = "1"
    pid: int = 0
    log: str = ""


class Jobs:
    """All jobs of a session, on the host's side. One thread, nothing blocks except the store (2 s at most)."""

    def __init__(self, session: str, log_dir: str) -> None:
        self.session = session
        self.log_dir = log_dir
        self.node_dir = ""  # known once the session is ready
        self.jobs: dict[str, Job] = {}
        self._asked_to_stop: set[str] = set()
        self._unsaved: dict[str, None] = {}  # in the order of their changes
        self._save_at = 0.0

    @property
    def running(self) -> list[Job]:
        """The jobs that have not ended."""
        return [job for job in self.jobs.values() if job.status not in ENDED]

    def pids(self) -> dict[int, Job]:
        """The descriptors of processes to wait for."""
        return {job.pid: job for job in self.running}

    # -------------------------------------------------------------- requests

    def submit(self, request: Mapping[str, Any]) -> Job:
        """Start an entrypoint; JobError when that makes no sense."""
        entrypoint = str(request.get("entrypoint") or "")
        if not entrypoint.strip():
            raise JobError("a job needs an entrypoint: the command to run")
        ident = str(request.get("submission_id") or f"hpcsubmit_{secrets.token_hex(8)}")
        if not _ID.match(ident):
            raise JobError(f"not a submission id: {ident!r} (letters, digits, '_', '.' and '-', at most 80)")
        if ident in self.jobs:
            raise JobError(f"there is a job {ident!r} already; choose another submission id, or delete that job")
        runtime_env = dict(request.get("runtime_env") or {})
        cwd = os.path.abspath(str(runtime_env.get("working_dir") or request.get("cwd") or os.path.expanduser("~")))
        if not os.path.isdir(cwd):
            raise JobError(f"the working directory {cwd} is not there")
        log = os.path.join(self.log_dir, f"job-{ident}.log")
        job = Job(
            ident, entrypoint, metadata=dict(request.get("metadata") or {}), runtime_env=runtime_env, log=log,
            start_time=_now_ms(),
        )  # fmt: skip
        job.pid = start_entrypoint(entrypoint, cwd, self._environment(job), log, STOP_GRACE_S)
        job.status, job.message = "RUNNING", "it is running"
        self.jobs[ident] = job
        self._changed(job)
        return job

    def _environment(self, job: Job) -> dict[str, str]:
        env = {**os.environ, **{str(k): str(v) for k, v in job.runtime_env.get("env_vars", {}).items()}}
        here = os.path.dirname(sys.executable)
        if here not in env.get("PATH", "").split(os.pathsep):
            env["PATH"] = f"{here}{os.pathsep}{env['PATH']}" if env.get("PATH") else here
        env.setdefault("PYTHONUNBUFFERED", "1")
        return {
            **env,
            "HPC_SESSION_DIR": self.node_dir,
            "HPC_ADDRESS": self.session,
            "HPC_JOB_ID": job.submission_id,
            "HPC_JOB_RUNTIME_ENV": json.dumps(job.runtime_env),
        }

    def get(self, ident: str) -> Job:
        """JobError when there is no such job."""
        job = self.jobs.get(ident)
        if job is None:
            listed = ", ".join(self.jobs) or "none"
            raise JobError(f"there is no job {ident!r} in session {self.session}; there are: {listed}")
        return job

    def stop(self, ident: str) -> bool:
        """Ask a job to end, by force a moment later; False when it has ended already."""
        job = self.get(ident)
        if job.status in ENDED:
            return False
        if ident not in self._asked_to_stop:
            self._asked_to_stop.add(ident)
            os.kill(job.pid, signal.SIGTERM)
        return True

    def stop_all(self) -> None:
        """Ask all to end."""
        for job in self.running:
            self.stop(job.submission_id)

    def delete(self, ident: str) -> None:
        """Forget a job that has ended, and its log."""
        job = self.get(ident)
        if job.status not in ENDED:
            raise JobError(f"job {ident!r} is {job.status}: stop it before it is deleted")
        del self.jobs[ident]
        self._asked_to_stop.discard(ident)
        try:
            os.unlink(job.log)
        except OSError:
            pass
        self._unsaved[ident] = None
        self._save_at = 0.0

    # -------------------------------------------------------------- what comes by itself

    def ended(self, pid: int, status: int) -> bool:
        """A child of the host has ended; whether it was a job's."""
        job = self.pids().get(pid)
        if job is None:
            return False
        code = os.waitstatus_to_exitcode(status)
        job.end_time = _now_ms()
        job.driver_exit_code = None if job.submission_id in self._asked_to_stop else code
        if job.submission_id in self._asked_to_stop:
            job.status, job.message = "STOPPED", "it was stopped"
        elif code == 0:
            job.status, job.message = "SUCCEEDED", "it ended with code 0"
        else:
            job.status, job.error_type = "FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR"
            job.message = "\n".join([f"the entrypoint {_describe(code)}", *last_lines(job.log)])
        self._changed(job)
        return True

    def _changed(self, job: Job) -> None:
        self._unsaved[job.submission_id] = None
        self._save_at = 0.0

    def turn(self) -> None:
        """Bring the head's store up to date; later, when the head does not take it now."""
        while self._unsaved and self.node_dir and time.monotonic() >= self._save_at:
            ident = next(iter(self._unsaved))
            job = self.jobs.get(ident)
            try:
                if job is None:
                    kv_delete(self.node_dir, KV_NAMESPACE, ident.encode())
                else:
                    kv_put(self.node_dir, KV_NAMESPACE, ident.encode(), json.dumps(asdict(job)).encode())
            except (OSError, HpcError, RuntimeError) as error:
                print(f"job {ident} is not in the head's store yet: {error}", file=sys.stderr)
                self._save_at = time.monotonic() + RETRY_S
                return
            del self._unsaved[ident]


def _describe(code: int) -> str:
    """An exit code in words; a shell says 128+N for signal N."""
    known = {int(signum) for signum in signal.Signals}
    return describe_code(128 - code if code > 128 and code - 128 in known else code)


def _now_ms() -> int:
    return int(time.time() * 1000)
