"""The public names of jobs, as Ray has them: commands that run in a session that `hpc start` began.

    client = JobSubmissionClient()                      # the only session, or JobSubmissionClient("1a2b3c4d5e6f")
    job = client.submit_job(entrypoint="python train.py", runtime_env={"working_dir": ".", "env_vars": {"A": "1"}})
    client.get_job_status(job)                          # JobStatus.RUNNING
    async for text in client.tail_job_logs(job):
        print(text, end="")

The entrypoint runs on the machine where the session was begun, with HPC_ADDRESS set: `hpc.init()` in it joins the
session. The client is no driver: it asks the session's host, and works beside a connection of this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from hpc.host.find import find_host
from hpc.host.talk import HostError, ask_host

POLL_S = 0.1
READ_BYTES = 1 << 20


class JobStatus(str, Enum):
    """Where a job is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    def __str__(self) -> str:
        return self.value

    def is_terminal(self) -> bool:
        """Whether it has ended."""
        return self in (JobStatus.STOPPED, JobStatus.SUCCEEDED, JobStatus.FAILED)


class JobType(str, Enum):
    """Kinds of jobs; drivers that nobody submitted are not listed here."""

    SUBMISSION = "SUBMISSION"


class JobErrorType(str, Enum):
    """Why a job has failed. Here it is always that its command ended with an exit status other than 0."""

    RUNTIME_ENV_SETUP_FAILURE = "RUNTIME_ENV_SETUP_FAILURE"
    JOB_SUPERVISOR_ACTOR_START_TIMEOUT = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
    JOB_SUPERVISOR_ACTOR_START_FAILURE = "JOB_SUPERVISOR_ACTOR_START_FAILURE"
    JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE = "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"
    JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE = "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"
    JOB_SUPERVISOR_ACTOR_DIED = "JOB_SUPERVISOR_ACTOR_DIED"
    JOB_ENTRYPOINT_COMMAND_START_ERROR = "JOB_ENTRYPOINT_COMMAND_START_ERROR"
    JOB_ENTRYPOINT_COMMAND_ERROR = "JOB_ENTRYPOINT_COMMAND_ERROR"

    def __str__(self) -> str:
        return self.value


@dataclass
class JobInfo:
    """What is known of a job. Times are milliseconds since 1970, None for "not yet". ``driver_exit_code`` is -N where
    signal N ended the entrypoint, None while it runs and where it was stopped. An entrypoint reserves nothing: what it
    would have is None."""

    submission_id: str
    entrypoint: str
    status: JobStatus
    message: str = ""
    error_type: JobErrorType | None = None
    start_time: int | None = None
    end_time: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    runtime_env: dict[str, Any] = field(default_factory=dict)
    driver_exit_code: int | None = None
    driver_node_id: str | None = None
    log_path: str = ""
    type: JobType = JobType.SUBMISSION
    job_id: str | None = None
    entrypoint_num_cpus: float | None = None
    entrypoint_num_gpus: float | None = None
    entrypoint_memory: int | None = None
    entrypoint_resources: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them; ``runtime_env`` as a text, ``runtime_env_json``."""
        row = {name: value.value if isinstance(value, Enum) else value for name, value in asdict(self).items()}
        row["runtime_env_json"] = json.dumps(row.pop("runtime_env"))
        return row

    @classmethod
    def from_json(cls, json_dict: Mapping[str, Any]) -> JobInfo:
        """The reverse of `to_json`. Raises ValueError for a status, type or error that there is not, TypeError for an
        unknown field."""
        row = dict(json_dict)
        env = row.pop("runtime_env_json", None)
        if env is not None:
            row["runtime_env"] = json.loads(env)
        row["status"] = JobStatus(row["status"])
        row["error_type"] = JobErrorType(row["error_type"]) if row.get("error_type") else None
        row["type"] = JobType(row.get("type", JobType.SUBMISSION))
        return cls(**row)


JobDetails = JobInfo


class JobSubmissionClient:
    """Submits and looks after the jobs of one session.

    address: a session's id, a node's directory, or "auto" (the only one); None looks at HPC_SESSION_DIR and HPC_ADDRESS
        first. ConnectionError when no session of `hpc start` is meant.
    """

    def __init__(
        self,
        address: str | None = None,
        create_cluster_if_needed: bool = False,
        cookies: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        verify: str | bool | None = True,
    ) -> None:
        if create_cluster_if_needed:
            raise NotImplementedError(
                "create_cluster_if_needed is not supported; begin a session with `hpc start --head`"
            )
        if address is not None and "://" in address:
            raise ValueError(f"{address!r} is no session: give its id (`hpc start --head` prints it), or auto")
        self._host = find_host(address)
        self._metadata = _texts("metadata", metadata or {})

    def get_address(self) -> str:
        """The session's id."""
        return self._host.session

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return ask_host(self._host, request)
        except HostError as error:
            raise RuntimeError(str(error)) from None

    def submit_job(
        self,
        *,
        entrypoint: str,
        job_id: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        submission_id: str | None = None,
        entrypoint_num_cpus: float | None = None,
        entrypoint_num_gpus: float | None = None,
        entrypoint_memory: int | None = None,
        entrypoint_resources: Mapping[str, float] | None = None,
        entrypoint_label_selector: Mapping[str, str] | None = None,
    ) -> str:
        """Start a command (for a shell) and return its submission id.

        runtime_env: "working_dir", the directory to run in (used as it is; without one, this process's), and fields for
            all tasks and actors of the drivers in it; "env_vars" count for the command too.

        Raises RuntimeError when the session refuses (an id that is taken), and ValueError for a directory that is not
        there. Raises TypeError for what is no text or mapping of texts.
        """
        for name, text in (("entrypoint", entrypoint), ("submission_id", submission_id), ("job_id", job_id)):
            if not isinstance(text, str) and (text is not None or name == "entrypoint"):
                raise TypeError(f"{name} must be a string, not {type(text).__name__}")
        for name, value in (
            ("entrypoint_num_cpus", entrypoint_num_cpus),
            ("entrypoint_num_gpus", entrypoint_num_gpus),
            ("entrypoint_memory", entrypoint_memory),
            ("entrypoint_resources", entrypoint_resources),
        ):
            if value:
                raise NotImplementedError(f"{name} is not supported: an entrypoint holds no resources of the session")
        if entrypoint_label_selector:
            raise NotImplementedError(
                "entrypoint_label_selector is not supported: an entrypoint runs where the session was begun"
            )
        env = _checked(runtime_env)
        request = {
            "op": "job_submit",
            "entrypoint": entrypoint,
            "submission_id": submission_id or job_id,
            "runtime_env": env,
            "metadata": {**self._metadata, **_texts("metadata", metadata or {})},
            "cwd": os.getcwd(),
        }
        return str(self._ask(request)["job"]["submission_id"])

    def get_job_info(self, job_id: str) -> JobInfo:
        """All that is known of a job; RuntimeError when there is none of this id."""
        return _info(self._ask({"op": "job_info", "job": job_id})["job"])

    def get_job_status(self, job_id: str) -> JobStatus:
        """Where a job is."""
        return self.get_job_info(job_id).status

    def list_jobs(self) -> list[JobInfo]:
        """All jobs of the session, in the order of their submission."""
        return [_info(job) for job in self._ask({"op": "job_list"})["jobs"]]

    def get_job_logs(self, job_id: str) -> str:
        """What a job has written so far."""
        return _read(self.get_job_info(job_id).log_path, 0).decode("utf-8", "replace")

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        """What a job writes, from its first line until it has ended."""
        offset, rest = 0, b""
        while True:
            info = await asyncio.to_thread(self.get_job_info, job_id)
            data = rest + await asyncio.to_thread(_read, info.log_path, offset)
            offset += len(data) - len(rest)
            cut = len(data) if info.status.is_terminal() else data.rfind(b"\n") + 1
            data, rest = data[:cut], data[cut:]
            if data:
                yield data.decode("utf-8", "replace")
            if info.status.is_terminal():
                return
            await asyncio.sleep(POLL_S)

    def stop_job(self, job_id: str) -> bool:
        """Ask a job to end (SIGTERM, SIGKILL 3 s later); False when it has ended already. Returns at once."""
        return bool(self._ask({"op": "job_stop", "job": job_id})["stopped"])

    def delete_job(self, job_id: str) -> bool:
        """Forget a job that has ended, and its log; RuntimeError when it still runs."""
        self._ask({"op": "job_delete", "job": job_id})
        return True

    def wait_until_ended(self, job_id: str, timeout_s: float | None = None) -> JobInfo:
        """Wait for the end of a job; TimeoutError after `timeout_s`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            info = self.get_job_info(job_id)
            if info.status.is_terminal():
                return info
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is {info.status} after {timeout_s:g} s")
            time.sleep(POLL_S)


def _texts(name: str, given: Mapping[str, Any]) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} must map strings to strings, not be {type(given).__name__}")
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"{name} must map strings to strings, not {key!r} to {value!r}")
    return dict(given)


def _checked(runtime_env: Mapping[str, Any] | None) -> dict[str, Any]:
    from hpc.api.options import check_options

    if runtime_env is not None and not isinstance(runtime_env, Mapping):
        raise TypeError(f"runtime_env must be a mapping, not {type(runtime_env).__name__}")
    env = dict(runtime_env or {})
    folder = env.get("working_dir")
    if folder is not None:
        if not isinstance(folder, (str, os.PathLike)):
            raise TypeError("runtime_env['working_dir'] must be a path")
        env["working_dir"] = os.path.abspath(os.path.expanduser(os.fspath(folder)))
        if not os.path.isdir(env["working_dir"]):
            raise ValueError(f"the working directory {env['working_dir']} is not there")
    check_options({"runtime_env": {k: v for k, v in env.items() if k != "working_dir"}}, actor=False)
    return env


def _info(row: Mapping[str, Any]) -> JobInfo:
    return JobInfo(
        submission_id=row["submission_id"],
        entrypoint=row["entrypoint"],
        status=JobStatus(row["status"]),
        message=row["message"],
        error_type=JobErrorType(row["error_type"]) if row["error_type"] else None,
        start_time=row["start_time"] or None,
        end_time=row["end_time"] or None,
        metadata=row["metadata"],
        runtime_env=row["runtime_env"],
        driver_exit_code=row["driver_exit_code"],
        driver_node_id=row["driver_node_id"],
        log_path=row["log"],
    )


def _read(path: str, offset: int) -> bytes:
    """All of a file from `offset` on; nothing when it is not there."""
    parts = []
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            while block := file.read(READ_BYTES):
                parts.append(block)
    except FileNotFoundError:
        pass
    return b"".join(parts)


__all__ = ["JobDetails", "JobErrorType", "JobInfo", "JobStatus", "JobSubmissionClient", "JobType"]
