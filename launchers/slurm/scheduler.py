"""Slurm behind the face of all schedulers (launchers/scheduler.py): the place that runs its commands.

commands.py makes and reads them, words.py explains what Slurm says, group.py is the one srun.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hpc.launchers.node_group import node_command
from hpc.launchers.run import SUBMIT_TIMEOUT_S, Background, CommandAnswer, run_command
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
from hpc.launchers.slurm import commands, words
from hpc.launchers.slurm.parts import Alike, parts_of

if TYPE_CHECKING:
    from hpc.launchers.node_group import Surroundings
    from hpc.launchers.slurm.group import SlurmGroup

#: How long the partitions may take to be listed when a refusal is explained.
PARTITIONS_TIMEOUT_S = 10.0


class Slurm:
    """The face."""

    name: ClassVar[str] = "slurm"
    title: ClassVar[str] = "Slurm"
    job_env: ClassVar[str] = commands.JOB_ID
    submits_with: ClassVar[str] = "sbatch"
    starts_with: ClassVar[str] = "srun"
    reads_env: ClassVar[str] = "SBATCH_"
    disk_env: ClassVar[Sequence[str]] = ("SLURM_TMPDIR",)
    script_name: ClassVar[str] = "job.sbatch"
    node_ranges: ClassVar[bool] = True
    gpu_kinds: ClassVar[bool] = True
    output_patterns: ClassVar[str] = "%j, %x, %u and more"
    numbers_env: ClassVar[str] = ""
    column: ClassVar[Mapping[str, str]] = commands.COLUMN
    strip: ClassVar[StepVariables] = commands.STRIP

    def here(self, env: Mapping[str, str]) -> Allocation | None:
        return commands.allocation(env)

    def configured(self, env: Mapping[str, str]) -> bool:
        """Whether sbatch is here and knows a cluster.

        Rejected: asking it (`scontrol ping`): with the client installed but not configured it looks in the DNS first.
        """
        sbatch = shutil.which("sbatch", path=env.get("PATH"))
        if sbatch is None:
            return False
        beside = Path(sbatch).resolve().parent.parent / "etc" / "slurm.conf"
        there = beside.exists() or any(os.path.exists(path) for path in commands.CONFIG_FILES)
        return bool(env.get("SLURM_CONF")) or there

    def group(
        self,
        alloc: Allocation | None,
        nodes: int | None = None,
        *,
        fork: bool = False,
        step_args: Sequence[str] = (),
        base_dir: str | None = None,
        around: Surroundings | None = None,
    ) -> SlurmGroup:
        from hpc.launchers.slurm.group import SlurmGroup, ask_all

        if alloc is None:
            raise ValueError("without an allocation of Slurm's there are no nodes of it")
        job, counts_gpus = ask_all(alloc)
        group = SlurmGroup(
            alloc, nodes=nodes, job=job, counts_gpus=counts_gpus, step_args=step_args, base_dir=base_dir,
            around=around,
        )  # fmt: skip
        group.notices = words.notices(os.environ)
        return group

    # -------------------------------------------------------------- before there is a job

    def carries(self) -> bool:
        return False

    def script(self, request: Request, *, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
        return commands.job_script(commands.directives(request), cwd=cwd, setup=setup, command=command)

    def submission(self, script: str, request: Request, *, estimate: bool = False, brought: bool = False) -> list[str]:
        return commands.sbatch_command(script, extra=request.submit_arg, test_only=estimate)

    def step(self, nodes: Sequence[str], *, whole: bool = True, step_args: Sequence[str] = ()) -> list[str]:
        program = [*node_command(), "--rank-env", commands.RANK_ENV]
        others = () if whole else ("others",)
        part = Alike(tuple(nodes), others=others, component=commands.component_of(nodes[0], os.environ))
        return commands.srun_command(part, program, extra=step_args)

    def output_file(self, output: str, job_id: str, job_name: str) -> str | None:
        import getpass

        return commands.output_file(output, job_id, job_name, getpass.getuser())

    # -------------------------------------------------------------- a job

    def submit(self, command: Sequence[str], request: Request) -> str:
        return commands.parse_submitted(self._hand_in(command, request).out)

    def estimate(self, command: Sequence[str], request: Request) -> str:
        answer = self._hand_in(command, request)
        return commands.parse_test_only(answer.err) or answer.why()

    def forecast(self, script: str, request: Request) -> Forecast:
        answer = self._hand_in(self.submission(script, request, estimate=True), request)
        found = commands.parse_forecast(answer.err)
        waiting = run_command(commands.waiting_command(request.partition), env=_questions_env())
        more = commands.waiting_in_words(waiting.out) if waiting.ok else ""
        return replace(
            found, gpus=self._gpus(request), why="; ".join(filter(None, [found.why, more]))
        )  # fmt: skip

    def _gpus(self, request: Request) -> int:
        """The GPUs that the whole job would have: those that are asked for, and with --exclusive all of its nodes."""
        asked = words.gpus_of(request)
        if asked or not request.exclusive:
            return asked
        answer = run_command(words.partitions_command(), timeout_s=PARTITIONS_TIMEOUT_S, env=_questions_env())
        there = words.parse_partitions(answer.out) if answer.ok else []
        return words.gpus_of_nodes(request, there)

    def _hand_in(self, command: Sequence[str], request: Request) -> CommandAnswer:
        env = commands.submit_env(os.environ, commands.directives(request))
        answer = run_command(command, timeout_s=SUBMIT_TIMEOUT_S, env=env)
        if not answer.ok:
            raise Refused(self._refusal(answer, request))
        return answer

    def _refusal(self, answer: CommandAnswer, request: Request) -> Diagnosis:
        """sbatch's no, explained with the limits of the partitions."""
        if answer.missing:
            what = "sbatch is not on this machine"
            return Diagnosis("NO-SCHEDULER", what, hint="--scheduler=local runs on this machine")
        if answer.timed_out:
            what = "sbatch did not answer; `hpc ps` and squeue show whether it took the job"
            return Diagnosis("SCHEDULER-DOWN", what, why=answer.why(), may_be_taken=True)
        asked = run_command(words.partitions_command(), timeout_s=PARTITIONS_TIMEOUT_S, env=_questions_env())
        partitions = words.parse_partitions(asked.out) if asked.ok else []
        return words.explain_refusal(answer.err, request, partitions, why=answer.why())

    def inquire(self, job_id: str, *, position: bool) -> SlurmInquiry:
        return SlurmInquiry(job_id, position)

    def states(self, job_ids: Sequence[str]) -> Mapping[str, JobInfo]:
        answer = run_command(commands.list_command(job_ids), env=_questions_env())
        if commands.no_such_job(answer.err):
            return {}  # squeue says so of one job that it does not know, and leaves it out among several
        if not answer.ok:
            raise NoAnswer(answer.why())
        return commands.parse_list(answer.out)

    def cancel(self, job_id: str) -> Reply:
        return _reply(run_command(commands.cancel_command(job_id)))

    def requeue(self, job_id: str) -> Reply:
        return _reply(run_command(commands.requeue_command(job_id)))

    def signal(self, job_id: str, name: str, folder: str) -> Reply:
        return _reply(run_command(commands.signal_command(job_id, name)))

    def on_each(
        self, alloc: Allocation, nodes: Sequence[str], argv: Sequence[str], step_args: Sequence[str] = ()
    ) -> list[Command]:
        but = set(alloc.nodes) - set(nodes)
        env = commands.step_env(os.environ)
        parts = parts_of(alloc, len(nodes), {}, but)
        return [Command(tuple(commands.srun_command(part, argv, extra=["--quiet", *step_args])), env) for part in parts]

    def broadcast(self, alloc: Allocation, nodes: Sequence[str], source: str, target: str) -> Command | None:
        """sbcast goes to all nodes of a job, and knows one component of a heterogeneous one."""
        if set(nodes) != set(alloc.nodes) or alloc.parts or shutil.which("sbcast") is None:
            return None
        return Command(tuple(commands.sbcast_command(alloc.job_id, source, target)), commands.step_env(os.environ))

    def run_in(self, job_id: str, host: str, argv: Sequence[str], folder: str) -> Command:
        return Command(tuple(commands.run_in_command(job_id, host, argv)), commands.run_in_env(os.environ))


class SlurmInquiry:
    """`scontrol show job`, and for a job that waits its place among those of its partition."""

    def __init__(self, job_id: str, position: bool) -> None:
        self._job_id, self._position = job_id, position
        self._command: Background | None = Background(commands.job_command(job_id), env=_questions_env())
        self._info: JobInfo | None = None  # once the place is asked for

    @property
    def over(self) -> bool:
        return self._command is None

    def poll(self) -> JobNews | None:
        answer = self._command.poll() if self._command is not None else None
        if answer is None:
            return None
        self.close()
        if self._info is not None:
            place = commands.queue_position(answer.out, self._job_id) if answer.ok else None
            return JobNews(self._info, position=place)
        info = commands.parse_job(answer.out) if answer.ok else None
        if info is not None and info.phase == "queued" and self._position:
            self._info = info
            self._command = Background(commands.queue_command(info.partition), env=_questions_env())
        return JobNews(info, known=answer.ok or not commands.no_such_job(answer.err))

    def close(self) -> None:
        if self._command is not None:
            self._command.close()
            self._command = None


def _questions_env() -> dict[str, str]:
    return commands.query_env(os.environ)


def _reply(answer: CommandAnswer) -> Reply:
    if answer.ok:
        return Reply(True)
    return Reply(False, unknown=commands.no_such_job(answer.err), why=answer.why())
