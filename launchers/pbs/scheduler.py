"""PBS behind the face of all schedulers (launchers/scheduler.py): the place that runs its commands.

commands.py makes and reads them, dialects.py has what Torque says otherwise than OpenPBS, words.py explains what PBS
says, group.py starts the nodes. OpenPBS's commands are called by their full paths: others of the same names may come
first (wrappers of other schedulers, Torque's). Torque's are those of the PATH, once one of them has said its version.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hpc.launchers.pbs import commands, dialects, torque, words
from hpc.launchers.pbs.dialects import OPEN_PBS, Dialect
from hpc.launchers.pbs.torque import Processors
from hpc.launchers.run import (
    PROBE_TIMEOUT_S,
    QUERY_TIMEOUT_S,
    SUBMIT_TIMEOUT_S,
    Background,
    CommandAnswer,
    run_command,
)  # fmt: skip
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

if TYPE_CHECKING:
    from hpc.launchers.node_group import Surroundings
    from hpc.launchers.pbs.group import PbsGroup

#: How long the queues may take to be listed when a refusal is explained.
QUEUES_TIMEOUT_S = 10.0
_NONE_HERE = "no qsub of OpenPBS, PBS Pro or Torque is on this machine"


class Pbs:
    """The face."""

    name: ClassVar[str] = "pbs"
    title: ClassVar[str] = "PBS"
    job_env: ClassVar[str] = commands.JOB_ID
    submits_with: ClassVar[str] = "qsub"
    starts_with: ClassVar[str] = "pbs_tmrsh (Torque: pbsdsh)"
    reads_env: ClassVar[str] = "PBS_DPREFIX"
    disk_env: ClassVar[Sequence[str]] = ()
    script_name: ClassVar[str] = "job.pbs"
    node_ranges: ClassVar[bool] = False
    gpu_kinds: ClassVar[bool] = False
    output_patterns: ClassVar[str] = ""
    numbers_env: ClassVar[str] = ""
    column: ClassVar[Mapping[str, str]] = commands.COLUMN
    strip: ClassVar[StepVariables] = commands.STEP_VARIABLES

    def here(self, env: Mapping[str, str]) -> Allocation | None:
        try:
            listed = Path(env[commands.NODE_FILE]).read_text()
        except (KeyError, OSError):
            return None
        return commands.allocation(env, listed)

    def configured(self, env: Mapping[str, str]) -> bool:
        """Whether OpenPBS's configuration file names a server, and its qsub is there; or Torque's server is named.

        A qsub alone says nothing: where Slurm is, there may be one in front of it.
        """
        config = _config(env)
        if config.get("PBS_EXEC"):
            return bool(config.get("PBS_SERVER")) and os.path.exists(_program("qsub", env))
        named = env.get(torque.SERVER_ENV) or any(os.path.exists(path) for path in torque.SERVER_FILES)
        return bool(named) and shutil.which("qsub", path=env.get("PATH")) is not None

    def group(
        self,
        alloc: Allocation | None,
        nodes: int | None = None,
        *,
        fork: bool = False,
        step_args: Sequence[str] = (),
        base_dir: str | None = None,
        around: Surroundings | None = None,
    ) -> PbsGroup:
        from hpc.launchers.pbs import tasks
        from hpc.launchers.pbs.group import PbsGroup

        if alloc is None:
            raise ValueError("without an allocation of PBS's there are no nodes of it")
        job = _ask([alloc.job_id], PROBE_TIMEOUT_S)[0].get(alloc.job_id)
        dialect = _dialect(os.environ)
        processors = Processors.read(_listed(commands.NODE_FILE), _listed(torque.GPU_FILE))
        starter = _program(dialect.starter, os.environ)
        usual = around is None or around.usual  # else nodes need the shared folder for what they are to run in
        library = tasks.library(_config(os.environ).get("PBS_EXEC")) if dialect is OPEN_PBS and usual else None
        return PbsGroup(
            alloc, starter, library=library, dialect=dialect, processors=processors, nodes=nodes, job=job, fork=fork,
            step_args=step_args, around=around,
        )  # fmt: skip

    # -------------------------------------------------------------- before there is a job

    def carries(self) -> bool:
        """OpenPBS starts tasks by its library. Torque's nodes find each other by a folder that they share."""
        return _dialect(os.environ) is OPEN_PBS

    def script(self, request: Request, *, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
        return _dialect(os.environ).script(request, cwd=cwd, setup=setup, command=command)

    def submission(self, script: str, request: Request, *, estimate: bool = False, brought: bool = False) -> list[str]:
        if brought:
            return commands.qsub_command(_program("qsub", os.environ), script, request, brought=True)
        return _dialect(os.environ).submission(_program("qsub", os.environ), script, request)

    def step(self, nodes: Sequence[str], *, whole: bool = True, step_args: Sequence[str] = ()) -> list[str]:
        dialect = _dialect(os.environ)
        starter = _program(dialect.starter, os.environ)
        processors = Processors.read(_listed(commands.NODE_FILE) or "\n".join(nodes))
        return dialect.task(starter, nodes[-1], processors, "JOIN.sh", len(nodes) - 1, step_args)

    def output_file(self, output: str, job_id: str, job_name: str) -> str | None:
        return commands.output_file(output, job_id)

    # -------------------------------------------------------------- a job

    def submit(self, command: Sequence[str], request: Request) -> str:
        self._check(command[0])
        answer = run_command(command, timeout_s=SUBMIT_TIMEOUT_S)
        if not answer.ok:
            raise Refused(self._refusal(answer, request))
        return commands.parse_submitted(answer.out)

    def estimate(self, command: Sequence[str], request: Request) -> str:
        """PBS has no question for that: a job must be in the queue."""
        self._check(command[0])
        return "PBS estimates the start of jobs that are in its queue only"

    def forecast(self, script: str, request: Request) -> Forecast:
        """PBS plans the starts of jobs in its queue only: what is free, and what waits there, is all that it tells."""
        self._check(_program("qsub", os.environ))
        asked = run_command(_located(commands.nodes_command()), timeout_s=QUEUES_TIMEOUT_S, env=_questions_env())
        if not asked.ok:
            what = "PBS's server does not answer"
            raise Refused(Diagnosis("SCHEDULER-DOWN", what, why=asked.why()))
        nodes = commands.parse_nodes(asked.out)
        dialect = _dialect(os.environ)
        waiting = run_command(
            _located(dialect.waiting_command(request.partition)), timeout_s=QUEUES_TIMEOUT_S, env=_questions_env()
        )  # fmt: skip
        more = dialect.waiting_in_words(waiting.out) if waiting.ok else ""
        why = "; ".join(filter(None, ["the scheduler tells no start of a job that is not in its queue", more]))
        most, gpus = request.nodes[1], (request.gpus_per_node or "").rpartition(":")[2]
        return Forecast(
            None, why, (request.cpus_per_task or 1) * most, int(gpus or 0) * most, dialect.free_nodes(request, nodes)
        )

    def _check(self, qsub: str) -> None:
        """A qsub that is found by its name alone may be anybody's. Refused."""
        if os.path.isabs(qsub):
            return
        found = shutil.which(qsub)
        said, dialect = _version(found or qsub)
        if dialect is None:
            hint = "PBS_CONF_FILE names OpenPBS's configuration file; --scheduler=local runs on this machine"
            if found is not None:
                hint = f"{found} may be a wrapper in front of another scheduler: --scheduler names that one"
            raise Refused(Diagnosis("NO-SCHEDULER", _NONE_HERE, why=f"{qsub} --version: {said}", hint=hint))

    def _refusal(self, answer: CommandAnswer, request: Request) -> Diagnosis:
        """qsub's no, explained with the limits of the queues."""
        if answer.missing:
            return Diagnosis("NO-SCHEDULER", _NONE_HERE, hint="--scheduler=local runs on this machine")
        if answer.timed_out:
            what = "qsub did not answer; `hpc ps` and qstat show whether it took the job"
            return Diagnosis("SCHEDULER-DOWN", what, why=answer.why(), may_be_taken=True)
        asked = run_command(_located(commands.queues_command()), timeout_s=QUEUES_TIMEOUT_S, env=_questions_env())
        said = answer.err or answer.out
        return words.explain_refusal(said, request, commands.parse_queues(asked.out), why=answer.why())

    def inquire(self, job_id: str, *, position: bool) -> PbsInquiry:
        return PbsInquiry(job_id)

    def states(self, job_ids: Sequence[str]) -> Mapping[str, JobInfo]:
        found, answer = _ask(job_ids)
        if not found and not answer.ok and not _no_such_job(answer):
            raise NoAnswer(answer.why())
        return found

    def cancel(self, job_id: str) -> Reply:
        return _reply(run_command(_located(commands.cancel_command(job_id))))

    def requeue(self, job_id: str) -> Reply:
        return Reply(False, why="PBS lets operators alone do that (qrerun)")

    def signal(self, job_id: str, name: str, folder: str) -> Reply:
        return _reply(run_command(_located(commands.signal_command(job_id, name))))

    def on_each(
        self, alloc: Allocation, nodes: Sequence[str], argv: Sequence[str], step_args: Sequence[str] = ()
    ) -> list[Command]:
        """What they print goes to the job's output."""
        dialect = _dialect(os.environ)
        processors = Processors.read(_listed(commands.NODE_FILE), _listed(torque.GPU_FILE))
        starter = _program(dialect.starter, os.environ)
        found = (argv if host == alloc.here else dialect.start(starter, host, processors, argv) for host in nodes)
        return [Command(tuple(command), dict(os.environ)) for command in found]

    def broadcast(self, alloc: Allocation, nodes: Sequence[str], source: str, target: str) -> Command | None:
        return None

    def run_in(self, job_id: str, host: str, argv: Sequence[str], folder: str) -> Command:
        """By ssh, which sites allow to the nodes of one's own jobs: tasks of a job are started from within it only."""
        ssh = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", host, shlex.join(argv)]
        return Command(tuple(ssh), dict(os.environ))


class PbsInquiry:
    """One qstat, and another one where the site keeps nothing of jobs that have ended."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._ended_too = _dialect(os.environ).remembers
        self._command: Background | None = self._ask()

    def _ask(self) -> Background:
        argv = commands.job_command([self._job_id], ended_too=self._ended_too)
        return Background(_located(argv), env=_questions_env())

    @property
    def over(self) -> bool:
        return self._command is None

    def poll(self) -> JobNews | None:
        answer = self._command.poll() if self._command is not None else None
        if answer is None:
            return None
        self.close()
        found = commands.parse_jobs(answer.out, time.time())
        info = found.get(self._job_id)
        if info is None and self._ended_too and commands.no_history(answer.err):
            self._ended_too = False
            self._command = self._ask()
            return None
        return JobNews(info, known=info is not None or not _no_such_job(answer))

    def close(self) -> None:
        if self._command is not None:
            self._command.close()
            self._command = None


def _ask(job_ids: Sequence[str], timeout_s: float = QUERY_TIMEOUT_S) -> tuple[dict[str, JobInfo], CommandAnswer]:
    """What the server says of jobs, and its last answer."""
    for ended_too in (True, False) if _dialect(os.environ).remembers else (False,):
        argv = commands.job_command(job_ids, ended_too=ended_too)
        answer = run_command(_located(argv), timeout_s=timeout_s, env=_questions_env())
        found = commands.parse_jobs(answer.out, time.time())
        if not commands.no_history(answer.err):
            break
    return found, answer


def _config(env: Mapping[str, str]) -> dict[str, str]:
    """PBS's own settings: its file's, and what the environment says instead."""
    try:
        found = commands.parse_config(Path(env.get("PBS_CONF_FILE") or commands.CONFIG_FILE).read_text())
    except OSError:
        found = {}
    return found | {name: env[name] for name in ("PBS_EXEC", "PBS_SERVER") if env.get(name)}


def _program(name: str, env: Mapping[str, str]) -> str:
    exec_dir = _config(env).get("PBS_EXEC")
    return f"{exec_dir}/bin/{name}" if exec_dir else name


def _located(argv: Sequence[str]) -> list[str]:
    return [_program(argv[0], os.environ), *argv[1:]]


def _questions_env() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _reply(answer: CommandAnswer) -> Reply:
    if answer.ok:
        return Reply(True)
    return Reply(False, unknown=_no_such_job(answer), why=answer.why())


def _no_such_job(answer: CommandAnswer) -> bool:
    """In words, or by the exit code that PBS has for it."""
    return commands.no_such_job(answer.err) or (answer.code == commands.UNKNOWN_JOB and not answer.err.strip())


def _listed(variable: str) -> str:
    """The text of the file that a variable of the job names; "" where there is none."""
    try:
        return Path(os.environ[variable]).read_text()
    except (KeyError, OSError):
        return ""


def _dialect(env: Mapping[str, str]) -> Dialect:
    """The job's; else OpenPBS's where its own configuration says where it is; else that of the qsub in the PATH.

    A qsub that is neither's is refused when it is to be used (`Pbs._check`).
    """
    found = dialects.of_job(env)
    if found is not None:
        return found
    if _config(env).get("PBS_EXEC"):
        return OPEN_PBS
    qsub = shutil.which("qsub", path=env.get("PATH"))
    return (_version(qsub)[1] if qsub is not None else None) or OPEN_PBS


@functools.cache
def _version(qsub: str) -> tuple[str, Dialect | None]:
    """What a qsub says of its version, and which dialect that is. It asks no server."""
    answer = run_command([qsub, "--version"], timeout_s=PROBE_TIMEOUT_S)
    return answer.why(), dialects.of_version(answer.out + answer.err)
