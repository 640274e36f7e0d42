"""The smallest scheduler: its jobs are entries of a dict, and a test says what happens to them.

docs/schedulers.md shows it as the example of what the methods of `launchers.scheduler.Scheduler` promise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from hpc.launchers.local.group import LocalGroup
from hpc.launchers.node_group import NodeGroup, Surroundings
from hpc.launchers.scheduler import (
    Allocation,
    Command,
    Diagnosis,
    Forecast,
    JobInfo,
    JobNews,
    NoAnswer,
    Refused,
    Reply,
    Request,
    StepVariables,
)  # fmt: skip


@dataclass
class FakeScheduler:
    """`refusal`: what `submit` says instead of taking a job. `down`: it answers nothing. `deaf`: it sends no signals.

    `story`: what happens, one step each time somebody asks about a job; the last step is repeated.
    """

    name: ClassVar[str] = "fake"
    title: ClassVar[str] = "Fake"
    job_env: ClassVar[str] = "FAKE_JOB"
    submits_with: ClassVar[str] = "fsub"
    starts_with: ClassVar[str] = "frun"
    reads_env: ClassVar[str] = "FSUB_"
    disk_env: ClassVar[Sequence[str]] = ("FAKE_DISK",)
    script_name: ClassVar[str] = "job.fake"
    node_ranges: ClassVar[bool] = True
    gpu_kinds: ClassVar[bool] = False
    output_patterns: ClassVar[str] = ""
    numbers_env: ClassVar[str] = ""
    column: ClassVar[Mapping[str, str]] = {"nodes": "-n", "time": "-t", "job_name": "-N", "output": "-o"}
    strip: ClassVar[StepVariables] = StepVariables(
        prefixes=("FAKE_STEP_",), names=("FAKE_RANK",), kept=("FAKE_STEP_GPUS",)
    )

    jobs: dict[str, JobInfo] = field(default_factory=dict)
    refusal: Diagnosis | None = None
    down: bool = False
    deaf: bool = False
    now_s: float = 0.0
    story: list[Callable[[], object]] = field(default_factory=list)
    inquiries: int = 0
    signals: list[tuple[str, str]] = field(default_factory=list)

    def change(self, job_id: str, **fields: Any) -> None:
        """Something happens to a job."""
        self.jobs[job_id] = replace(self.jobs[job_id], **fields)

    # -------------------------------------------------------------- where nodes come from

    def here(self, env: Mapping[str, str]) -> Allocation | None:
        if self.job_env not in env:
            return None
        return Allocation(env[self.job_env], tuple(env["FAKE_HOSTS"].split()), env.get("FAKE_HOST"))

    def configured(self, env: Mapping[str, str]) -> bool:
        return "FAKE_CLUSTER" in env

    def group(
        self,
        alloc: Allocation | None,
        nodes: int | None = None,
        *,
        fork: bool = False,
        step_args: Sequence[str] = (),
        base_dir: str | None = None,
        around: Surroundings | None = None,
    ) -> NodeGroup:
        assert alloc is not None
        return LocalGroup(nodes or len(alloc.nodes), fork=fork, around=around)

    # -------------------------------------------------------------- before there is a job

    def carries(self) -> bool:
        return False

    def script(self, request: Request, *, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
        asked = [f"{flag} {getattr(request, name)}" for name, flag in self.column.items() if getattr(request, name)]
        return "\n".join([*(f"#FAKE {line}" for line in asked), f"cd {cwd}", *setup, " ".join(command)]) + "\n"

    def submission(self, script: str, request: Request, *, estimate: bool = False, brought: bool = False) -> list[str]:
        return [self.submits_with, *(["--when"] if estimate else []), *request.submit_arg, script]

    def step(self, nodes: Sequence[str], *, whole: bool = True, step_args: Sequence[str] = ()) -> list[str]:
        return [self.starts_with, *step_args, *nodes]

    def output_file(self, output: str, job_id: str, job_name: str) -> str | None:
        return None if "?" in output else output.replace("@", job_id)

    # -------------------------------------------------------------- a job

    def submit(self, command: Sequence[str], request: Request) -> str:
        if self.refusal is not None:
            raise Refused(self.refusal)
        job_id = str(len(self.jobs) + 1)
        self.jobs[job_id] = JobInfo(job_id, "queued", "WAITS", reason="Busy", why="all nodes are busy", partition="p")
        return job_id

    def estimate(self, command: Sequence[str], request: Request) -> str:
        if self.refusal is not None:
            raise Refused(self.refusal)
        return "in an hour"

    def forecast(self, script: str, request: Request) -> Forecast:
        """The fewer nodes, the sooner: nodes become free one a minute, from the second one on."""
        if self.refusal is not None:
            raise Refused(self.refusal)
        return Forecast(self.now_s + 60.0 * max(0, request.nodes[1] - 1), cpus=2 * request.nodes[1])

    def inquire(self, job_id: str, *, position: bool) -> FakeInquiry:
        self.inquiries += 1
        if self.story:
            (self.story.pop(0) if len(self.story) > 1 else self.story[0])()
        if self.down:
            return FakeInquiry(JobNews())
        return FakeInquiry(JobNews(self.jobs.get(job_id), job_id in self.jobs, 3 if position else None))

    def states(self, job_ids: Sequence[str]) -> Mapping[str, JobInfo]:
        if self.down:
            raise NoAnswer("fstat: nobody is there")
        return {job_id: self.jobs[job_id] for job_id in job_ids if job_id in self.jobs}

    def cancel(self, job_id: str) -> Reply:
        if self.down:
            return Reply(False, why="fdel: nobody is there")
        if job_id not in self.jobs:
            return Reply(False, unknown=True, why="fdel: no such job")
        self.change(job_id, phase="ended", state="GONE", ending="cancelled")
        return Reply(True)

    def requeue(self, job_id: str) -> Reply:
        return Reply(True)

    def signal(self, job_id: str, name: str, folder: str) -> Reply:
        self.signals.append((job_id, name))
        return Reply(not self.deaf, why="fsig: no such signal" if self.deaf else "")

    def on_each(
        self, alloc: Allocation, nodes: Sequence[str], argv: Sequence[str], step_args: Sequence[str] = ()
    ) -> list[Command]:
        return [Command(tuple(argv), dict(os.environ)) for _ in nodes]

    def broadcast(self, alloc: Allocation, nodes: Sequence[str], source: str, target: str) -> Command | None:
        return None

    def run_in(self, job_id: str, host: str, argv: Sequence[str], folder: str) -> Command:
        words = ["/bin/sh", "-c", 'echo "$@"; exit 3', self.starts_with, job_id, host, *argv]
        return Command(tuple(words), dict(os.environ))


class FakeInquiry:
    """An answer that is there at once."""

    def __init__(self, news: JobNews) -> None:
        self._news: JobNews | None = news

    @property
    def over(self) -> bool:
        return self._news is None

    def poll(self) -> JobNews | None:
        news, self._news = self._news, None
        return news

    def close(self) -> None:
        self._news = None
