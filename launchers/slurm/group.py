"""The nodes of a Slurm allocation: one srun for nodes that are alike, one supervisor per node, and what srun says about
their fate.

srun's stdout carries the supervisors' lines. Its stderr is read apart, so that a message of srun can never cut a line
in two. What it tells of lost tasks and nodes is handed on as if their supervisors had said it. Nearly always all nodes
are alike, and there is ONE srun; parts.py says when there are more.
Rejected: one srun per node (a centre's complaint, and N times the load on the controller). Rejected too: `srun
--multi-prog` (a file per step), and ssh (often not allowed, and outside of the job's limits).
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from hpc.core.node.bootstrap import Noise, Report
from hpc.launchers.node_group import HERE, Channel, NodeGroup, Surroundings, node_command
from hpc.launchers.run import PROBE_TIMEOUT_S, Background, CommandAnswer, readable_bytes, run_command
from hpc.launchers.scheduler import Allocation, JobInfo
from hpc.launchers.slurm.abandoned import watcher
from hpc.launchers.slurm.commands import (
    RANK_ENV,
    SrunNews,
    choose_mpi,
    cluster_command,
    end_steps_command,
    job_command,
    mpi_command,
    mpi_list_command,
    parse_counts_gpus,
    parse_job,
    parse_srun_line,
    parse_steps,
    query_env,
    srun_command,
    srun_noise,
    step_env,
    steps_command,
)  # fmt: skip
from hpc.launchers.slurm.parts import Alike, grants, parts_of, shares_from_env

GRANT_ENV = {
    "cpus": ["SLURM_CPUS_ON_NODE"],
    "gpus": ["SLURM_STEP_GPUS"],  # not SLURM_JOB_GPUS: those are the batch host's
    "topology": ["SLURM_TOPOLOGY_ADDR"],
}
KILL_AFTER_S = 3.0  # srun gets so long to end its tasks after SIGTERM
LAST_WORDS = 12
SWEEP = (
    "import os, sys; sys.path[:]=[p for p in sys.path if p]; from hpc.core.node import rundir; "
    "[rundir.sweep(b) for b in {*sys.argv[1:], '/tmp', "
    "*map(os.environ.get, ('HPC_TMPDIR', 'RAY_TMPDIR', 'TMPDIR'))} if b]"
)
STEP_END_S = 15.0  # how long the step of a killed srun may take to end
STEP_TERM_S = 6.0  # of that, until SIGKILL
STEP_LOOK_S = 0.25


def ask_job(alloc: Allocation, env: Mapping[str, str] | None = None) -> JobInfo | None:
    """What the controller says about our job (time left, what it has of each node); None when it does not answer at
    once."""
    answer = run_command(
        job_command(alloc.job_id), timeout_s=PROBE_TIMEOUT_S, env=query_env(os.environ if env is None else env)
    )
    return parse_job(answer.out) if answer.ok else None


def ask_all(alloc: Allocation) -> tuple[JobInfo | None, bool]:
    """The same, and whether the cluster counts GPUs: two questions at once."""
    config = Background(cluster_command(), timeout_s=PROBE_TIMEOUT_S, env=query_env(os.environ))
    try:
        job = ask_job(alloc)
        answer = config.wait()
    finally:
        config.close()
    return job, answer.ok and parse_counts_gpus(answer.out)


class SlurmGroup(NodeGroup):
    """`nodes` of an allocation (all of them by default), by their ranks; those that are alike are neighbours.

    job: what `ask_job` answered; without it the time left is unknown and GPUs are as srun gives them.
    counts_gpus: none granted is none, whatever devices a node has.
    step_args: srun arguments of the user, after ours, so that they win.
    base_dir: where node directories are, if not in the usual places: to clear up after sudden ends.
    but: nodes that are left out. around: in what the nodes' processes run, if not as this one does.
    """

    def __init__(
        self,
        alloc: Allocation,
        *,
        nodes: int | None = None,
        job: JobInfo | None = None,
        counts_gpus: bool = False,
        step_args: Sequence[str] = (),
        command: Sequence[str] | None = None,
        base_dir: str | None = None,
        env: Mapping[str, str] | None = None,
        but: frozenset[str] = frozenset(),
        around: Surroundings | None = None,
    ) -> None:
        count = len(alloc.nodes) - len(but) if nodes is None else nodes
        if count > len(alloc.nodes) - len(but):
            raise ValueError(f"the allocation has {len(alloc.nodes) - len(but)} nodes, not {count}")
        super().__init__(count)
        self._but = but
        self._again = partial(
            SlurmGroup, alloc, job=job, counts_gpus=counts_gpus, step_args=step_args, command=command,
            base_dir=base_dir, env=env, around=around,
        )  # fmt: skip
        self.alloc = alloc
        self.job_id = alloc.job_id
        self.job = job
        self.runs_again = job is not None and job.runs_again
        self.last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._env = dict(os.environ if env is None else env)
        self._counts_gpus = counts_gpus
        self._granted = job.granted if job is not None else shares_from_env(self._env, alloc)
        self.step_name = f"hpc-{secrets.token_hex(4)}"
        around = around or HERE
        program = list(command) if command is not None else [*node_command(around), "--rank-env", RANK_ENV]
        bases = [*([base_dir] if base_dir else []), *([os.path.dirname(around.owned)] if around.owned else [])]
        self._sruns: list[_Srun] = []
        first = 0
        for part in parts_of(alloc, count, self._granted, but):
            own = [*program, "--first-rank", str(first)] if first and command is None else program
            argv = srun_command(part, own, name=self.step_name, extra=[*around.step, *step_args])
            self._sruns.append(_Srun(self, part, first, argv, bases))
            first += len(part.nodes)
        self.hosts = tuple(host for srun in self._sruns for host in srun.part.nodes)

    # -------------------------------------------------------------- what NodeGroup asks for

    def start_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"grant_env": GRANT_ENV}
        fields["grants"] = grants(self.hosts, self._granted, counts_gpus=self._counts_gpus)
        if self.job is not None:
            fields["time_left_s"] = self.job.time_left_s
        fields["when_abandoned"] = watcher(self._env, os.getpid())
        return fields

    def host_of(self, rank: int) -> str | None:
        return self.hosts[rank] if rank < len(self.hosts) else None

    def mpi_command(self, hosts: Sequence[str], per_node: int, cpus: int) -> list[str] | None:
        if len(self._sruns) > 1:
            return None
        part = self._sruns[0].part
        others = tuple(node for node in (*part.nodes, *part.others) if node not in hosts)
        kind = "" if self._env.get("SLURM_MPI_TYPE") else self._mpi_kind()
        if kind is None:
            return None
        return mpi_command(replace(part, nodes=tuple(hosts), others=others), per_node, cpus, kind)

    def _mpi_kind(self) -> str | None:
        """The value of srun's --mpi, "" for the cluster's own choice; None where it has nothing for MPI."""
        env = query_env(self._env)
        config = run_command(cluster_command(), timeout_s=PROBE_TIMEOUT_S, env=env)
        listed = run_command(mpi_list_command(), timeout_s=PROBE_TIMEOUT_S, env=env)
        return choose_mpi(config.out, listed.out + listed.err) if listed.ok else None

    def describe(self) -> str:
        return f"srun on {self.size} node{'s' if self.size > 1 else ''} of Slurm job {self.alloc.job_id}"

    def _launch(self) -> list[Channel]:
        env = step_env(self._env)
        return [channel for srun in self._sruns for channel in srun.start(env)]

    def poll(self) -> int | None:
        codes = [srun.poll(self._env) for srun in self._sruns]
        return None if None in codes else max((code or 0 for code in codes), key=abs)

    def kill(self) -> None:
        for srun in self._sruns:
            srun.kill()

    def without_refused(self) -> SlurmGroup | None:
        but = self._but | set(self.refused)
        count = min(self.size, len(self.alloc.nodes) - len(but))
        return self._again(nodes=count, but=but) if self.refused and count else None

    def leave(self) -> None:
        for srun in self._sruns:
            srun.leave()


class _Srun:
    """One srun: nodes that are alike, the first of which has the rank `first`."""

    def __init__(self, group: SlurmGroup, part: Alike, first: int, argv: Sequence[str], bases: Sequence[str]) -> None:
        self.part, self.argv = part, list(argv)
        self._group, self._first, self._bases = group, first, bases
        self._process: subprocess.Popen[bytes] | None = None
        self._killed_at: float | None = None
        self._left = False
        self._ending: _StepEnd | None = None

    def start(self, env: Mapping[str, str]) -> list[Channel]:
        stdin_read, stdin_write = os.pipe()
        stdout_read, stdout_write = os.pipe()
        stderr_read, stderr_write = os.pipe()
        try:
            self._process = subprocess.Popen(
                self.argv,
                stdin=stdin_read,
                stdout=stdout_write,
                stderr=stderr_write,
                env=dict(env),
                start_new_session=True,  # Ctrl-C must not reach srun: it would end the step
            )
        except OSError:
            for fd in (stdin_write, stdout_read, stderr_read):
                os.close(fd)
            raise
        finally:
            for fd in (stdin_read, stdout_write, stderr_write):
                os.close(fd)
        errors = _SrunErrors(self, stderr_read)
        ranks = range(self._first, self._first + len(self.part.nodes))
        return [errors, _SrunOutput(stdin_write, stdout_read, ranks, errors)]

    def poll(self, env: Mapping[str, str]) -> int | None:
        if self._process is None:
            return 0
        if self._killed_at is not None and time.monotonic() - self._killed_at > KILL_AFTER_S:
            self._process.kill()
        code = self._process.poll()
        if code is None or self._left or (code >= 0 and self._killed_at is None):
            return code
        if self._ending is None:
            sweep = srun_command(
                replace(self.part, gpus=0), [sys.executable, "-c", SWEEP, *self._bases], extra=["--quiet"]
            )
            self._ending = _StepEnd(self.part.job_id, self._group.step_name, env, sweep)
        return code if self._ending.over() else None

    def kill(self) -> None:
        """SIGTERM has srun kill the tasks on all nodes; only when that takes too long is srun killed itself."""
        if self._process is not None and self._process.poll() is None and self._killed_at is None:
            self._killed_at = time.monotonic()
            self._process.send_signal(signal.SIGTERM)

    def leave(self) -> None:
        """srun waits for a node that is gone until Slurm has noticed, which may take minutes."""
        if self._process is not None:
            self._left = True
            self._process.kill()

    def hear(self, text: str) -> list[Report | Noise]:
        """One line of srun as the supervisors' own reports."""
        self._group.last_words.append(text.strip())
        news = parse_srun_line(text)
        if news.refused:
            self._group.refused |= dict.fromkeys(news.nodes, news.text)
        return [*self.reports(news), Noise(text)]

    def reports(self, news: SrunNews) -> list[Report]:
        nodes = self.part.nodes
        gone = set(news.ranks) | {r for r, host in enumerate(nodes) if host in news.nodes and not news.ranks}
        found = [Report(self._first + rank, {"op": "bye", "code": 1, "why": news.text}) for rank in sorted(gone)]
        if news.fatal:
            found += [Report(self._first + rank, {"op": "error", "why": news.text}) for rank in range(len(nodes))]
        return found


class _StepEnd:
    """Clears up after an srun that was killed, or that had to kill.

    Its helper process has the tasks killed then, supervisors and their keepers alike, so directories stay. Where the
    helper is gone too, slurmstepd tells the tasks nothing and they go on as long as the job does. So: end what is left
    of the step (SIGTERM, then SIGKILL), then remove the directories by one more step.
    """

    def __init__(self, job_id: str, step_name: str, env: Mapping[str, str], sweep: Sequence[str]) -> None:
        self._job_id, self._name, self._env = job_id, step_name, query_env(env)
        self._sweep, self._sweep_env = list(sweep), step_env(env)
        self._give_up_at = time.monotonic() + STEP_END_S
        self._asked_at = self._term_at = 0.0
        self._signals = 0  # first SIGTERM, then SIGKILL
        self._command: Background | None = None
        self._done = False

    def over(self) -> bool:
        """Whether all is cleared up, or cannot be within the time for it. Never blocks."""
        now = time.monotonic()
        if self._done or now > self._give_up_at:
            self._close()
            return True
        if self._command is None:
            if now - self._asked_at > STEP_LOOK_S:
                self._asked_at = now
                self._command = Background(steps_command(self._job_id), timeout_s=PROBE_TIMEOUT_S, env=self._env)
            return False
        answer = self._command.poll()
        if answer is not None:
            self._close()
            self._next(answer, now)
        return self._done

    def _next(self, answer: CommandAnswer, now: float) -> None:
        if answer.argv[0] == "squeue" and answer.ok:
            steps = parse_steps(answer.out, self._name)
            if not steps:
                self._command = Background(self._sweep, timeout_s=PROBE_TIMEOUT_S, env=self._sweep_env)
            elif self._signals == 0 or (self._signals == 1 and now > self._term_at + STEP_TERM_S):
                self._signals += 1
                self._term_at = now
                command = end_steps_command(steps, kill=self._signals == 2)
                self._command = Background(command, timeout_s=PROBE_TIMEOUT_S, env=self._env)
        elif answer.argv[0] == "srun":
            self._done = True

    def _close(self) -> None:
        if self._command is not None:
            self._command.close()
            self._command = None


class _SrunErrors(Channel):
    """srun's stderr: lines become news of ranks, the rest is noise. Its other direction leads nowhere."""

    def __init__(self, srun: _Srun, stderr_fd: int) -> None:
        super().__init__(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), stderr_fd, ())
        self.srun = srun

    def read(self) -> list[Report | Noise]:
        found: list[Report | Noise] = []
        for item in super().read():
            if isinstance(item, Noise) and not srun_noise(item.text):
                found += self.srun.hear(item.text)
        return found

    def pending(self) -> list[Report | Noise]:
        """What has been written and not read, without an end of this channel: that is the session's to see."""
        found: list[Report | Noise] = []
        while not self.eof and readable_bytes(self.stdout_fd):
            found += self.read()
        return found


class _SrunOutput(Channel):
    """The supervisors' lines. When they end, srun's last words come first: they say why."""

    def __init__(self, stdin_fd: int, stdout_fd: int, ranks: Sequence[int], errors: _SrunErrors) -> None:
        super().__init__(stdin_fd, stdout_fd, ranks)
        self.errors = errors

    def read(self) -> list[Report | Noise]:
        found = super().read()
        return [*self.errors.pending(), *found] if self.eof else found
