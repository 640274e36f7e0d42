"""The two dialects of PBS, told apart by their version: in a job by PBS_VERSION, on a login node by `qsub --version`.

What both say in the same way is in commands.py alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from hpc.launchers.pbs import commands, torque
from hpc.launchers.pbs.torque import Processors
from hpc.launchers.scheduler import JobInfo, Request


class Dialect(Protocol):
    """Where they differ."""

    #: The command that starts a process on another node of a job.
    starter: ClassVar[str]
    #: For /bin/sh: runs the command in "$@" and says how the task ended, as `task RANK CODE`; its rank is "$0".
    watch: ClassVar[str]
    #: Whether qstat can be asked for jobs that have ended (-x).
    remembers: ClassVar[bool]

    def script(self, request: Request, *, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
        """The text of the job script."""

    def submission(self, qsub: str, script: str, request: Request) -> list[str]:
        """The command that submits it."""

    def task(
        self, starter: str, host: str, processors: Processors, script: str, rank: int, extra: Sequence[str]
    ) -> list[str]:
        """The command that runs the script with a rank on another node of the job."""

    def start(self, starter: str, host: str, processors: Processors, argv: Sequence[str]) -> list[str]:
        """The command that runs a program on another node of the job."""

    def grants(self, hosts: Sequence[str], job: JobInfo | None, processors: Processors) -> list[dict[str, Any]]:
        """What each rank was granted, for the start message; empty where nothing is known."""

    def free_nodes(self, request: Request, nodes: Sequence[Mapping[str, str]]) -> int:
        """How many of the nodes (by `pbsnodes -a`) have free what is asked of each."""

    def waiting_command(self, queue: str | None) -> list[str]:
        """The command that lists the jobs that wait in a queue."""

    def waiting_in_words(self, out: str) -> str:
        """What it said, for people; "" where none waits."""


class OpenPbs:
    """OpenPBS and PBS Pro."""

    starter: ClassVar[str] = "pbs_tmrsh"
    watch: ClassVar[str] = '"$@"; echo "task $0 $?"'
    remembers: ClassVar[bool] = True

    def script(self, request: Request, *, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
        return commands.job_script(cwd=cwd, setup=setup, command=command)

    def submission(self, qsub: str, script: str, request: Request) -> list[str]:
        return commands.qsub_command(qsub, script, request)

    def task(
        self, starter: str, host: str, processors: Processors, script: str, rank: int, extra: Sequence[str]
    ) -> list[str]:
        return commands.task_command(starter, host, script, rank, extra)

    def start(self, starter: str, host: str, processors: Processors, argv: Sequence[str]) -> list[str]:
        return [starter, host, *argv]

    def grants(self, hosts: Sequence[str], job: JobInfo | None, processors: Processors) -> list[dict[str, Any]]:
        return commands.grants(hosts, job) if job is not None else []

    def free_nodes(self, request: Request, nodes: Sequence[Mapping[str, str]]) -> int:
        return commands.free_nodes(request, nodes)

    def waiting_command(self, queue: str | None) -> list[str]:
        return commands.waiting_command(queue)

    def waiting_in_words(self, out: str) -> str:
        return commands.waiting_in_words(out)


class Torque:
    """Torque, and what speaks its dialect."""

    starter: ClassVar[str] = "pbsdsh"
    watch: ClassVar[str] = torque.WATCH
    remembers: ClassVar[bool] = False

    def script(self, request: Request, *, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
        return torque.job_script(request, cwd=cwd, setup=setup, command=command)

    def submission(self, qsub: str, script: str, request: Request) -> list[str]:
        return torque.qsub_command(qsub, script, request)

    def task(
        self, starter: str, host: str, processors: Processors, script: str, rank: int, extra: Sequence[str]
    ) -> list[str]:
        return torque.task_command(starter, processors.first(host), script, rank, extra)

    def start(self, starter: str, host: str, processors: Processors, argv: Sequence[str]) -> list[str]:
        return [starter, "-n", str(processors.first(host)), *argv]

    def grants(self, hosts: Sequence[str], job: JobInfo | None, processors: Processors) -> list[dict[str, Any]]:
        return torque.grants(hosts, job, processors)

    def free_nodes(self, request: Request, nodes: Sequence[Mapping[str, str]]) -> int:
        return torque.free_nodes(request, nodes)

    def waiting_command(self, queue: str | None) -> list[str]:
        return torque.waiting_command(queue)

    def waiting_in_words(self, out: str) -> str:
        return torque.waiting_in_words(out)


OPEN_PBS, TORQUE = OpenPbs(), Torque()


def of_job(env: Mapping[str, str]) -> Dialect | None:
    """The dialect of the job that this environment is part of; None outside of one."""
    if not env.get(commands.JOB_ID):
        return None
    return TORQUE if env.get("PBS_VERSION", "").upper().startswith(torque.JOBS_VERSION) else OPEN_PBS


def of_version(said: str) -> Dialect | None:
    """The dialect whose `qsub --version` has said this; None for what is neither (a wrapper of another scheduler)."""
    return OPEN_PBS if commands.is_open_pbs(said) else TORQUE if torque.is_torque(said) else None
