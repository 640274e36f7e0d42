"""Slurm in pure make-command / parse-answer pairs: nothing here runs a command or reads a clock.

The one reason to exist: what we say to Slurm and how we read what it says can be tested word by word without one,
and is then tested again on a real one (tests/schedulers). launchers/run.py runs the commands, launchers/
slurm_group.py holds the one srun. All facts were seen on Slurm 22.05.
Rejected: the --json outputs (their layout changed with nearly every release), pyslurm and the C API (must match
the installed release), sacct (many sites keep no accounting).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

# ---------------------------------------------------------------- names of nodes


def expand_nodes(expression: str) -> list[str]:
    """`nid[0001-0003,7],login1` -> the names in order, zeros kept. ValueError when it is no such expression."""
    names: list[str] = []
    for part in _split_top(expression.strip()):
        names.extend(_expand_one(part))
    return names


def _split_top(text: str) -> Iterator[str]:
    """Split at the commas outside brackets."""
    depth, start = 0, 0
    for i, char in enumerate(text):
        if char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
        elif char == "," and depth == 0:
            if i > start:
                yield text[start:i]
            start = i + 1
        if depth not in (0, 1):
            raise ValueError(f"not a node list: {text!r}")
    if depth:
        raise ValueError(f"not a node list: {text!r}")
    if text[start:]:
        yield text[start:]


def _expand_one(part: str) -> list[str]:
    head, bracket, rest = part.partition("[")
    if not bracket:
        return [head]
    inside, _, tail = rest.partition("]")
    tails = _expand_one(tail) if tail else [""]
    names: list[str] = []
    for piece in inside.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", piece)
        if match is None:
            raise ValueError(f"not a node list: {part!r}")
        low, high = match.group(1), match.group(2) or match.group(1)
        if int(high) - int(low) > 100_000:
            raise ValueError(f"not a node list: {part!r}")
        names.extend(f"{head}{n:0{len(low)}d}{t}" for n in range(int(low), int(high) + 1) for t in tails)
    return names


def compress_nodes(names: Sequence[str]) -> str:
    """The short form of many names, for people: nid[0001-0003,0007]. Names without a number stay as they are."""
    groups: dict[tuple[str, int], list[int]] = {}
    order: list[tuple[str, int] | str] = []
    for name in names:
        match = re.fullmatch(r"(.*?)(\d+)", name)
        key: tuple[str, int] | str = (match.group(1), len(match.group(2))) if match else name
        if key not in order:
            order.append(key)
        if match and isinstance(key, tuple):
            groups.setdefault(key, []).append(int(match.group(2)))
    words = []
    for key in order:
        if isinstance(key, str):
            words.append(key)
            continue
        prefix, width = key
        runs = _runs(sorted(set(groups[key])))
        spans = [f"{a:0{width}d}" if a == b else f"{a:0{width}d}-{b:0{width}d}" for a, b in runs]
        plain = len(spans) == 1 and "-" not in spans[0]
        words.append(f"{prefix}{spans[0]}" if plain else f"{prefix}[{','.join(spans)}]")
    return ",".join(words)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for n in numbers:
        if runs and runs[-1][1] == n - 1:
            runs[-1] = (runs[-1][0], n)
        else:
            runs.append((n, n))
    return runs


def parse_counts(text: str) -> list[int]:
    """SLURM_JOB_CPUS_PER_NODE: `2(x3),1` -> [2, 2, 2, 1]."""
    counts: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", piece.strip())
        if match is None:
            raise ValueError(f"not a list of counts: {text!r}")
        counts.extend([int(match.group(1))] * int(match.group(2) or 1))
    return counts


def parse_clock(text: str) -> float | None:
    """Slurm's own times, `1-02:03:04`, `02:03:04`, `3:04`, as seconds; None for UNLIMITED, INVALID, NOT_SET, n/a."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(g or 0) for g in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


# ---------------------------------------------------------------- inside an allocation


@dataclass(frozen=True)
class Allocation:
    """What Slurm says by the environment about the job that we run in."""

    job_id: str
    nodes: tuple[str, ...]
    cpus_per_node: tuple[int, ...]
    partition: str
    here: str | None  # the node's name when we run on one of them, None on a login node (salloc)
    gpus_hinted: bool  # whether the environment speaks of GPUs at all

    def runs_here(self, hostname: str) -> bool:
        """Whether this host is one of the allocation's nodes (short and full names agree)."""
        short = hostname.split(".")[0]
        return self.here is not None or short in {n.split(".")[0] for n in self.nodes}


def allocation(env: Mapping[str, str]) -> Allocation | None:
    """The allocation that this environment belongs to; None outside of one. ValueError when it makes no sense."""
    job_id = env.get("SLURM_JOB_ID") or env.get("SLURM_JOBID")
    listed = env.get("SLURM_JOB_NODELIST") or env.get("SLURM_NODELIST")
    if not job_id or not listed:
        return None
    nodes = tuple(expand_nodes(listed))
    cpus = env.get("SLURM_JOB_CPUS_PER_NODE", "")
    counts = tuple(parse_counts(cpus)) if cpus else ()
    hinted = any(k in env for k in ("SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE", "SLURM_STEP_GPUS"))
    hinted = hinted or any(k.startswith(("SLURM_GPUS", "SLURM_TRES_PER")) for k in env)
    return Allocation(
        job_id, nodes, counts, env.get("SLURM_JOB_PARTITION", ""), env.get("SLURMD_NODENAME") or None, hinted
    )


# Of Slurm's variables srun needs only these to find the job. All others would be taken as options of the step
# (SLURM_NTASKS, SLURM_GPUS_PER_TASK, SLURM_CPU_BIND, SLURM_HINT ...) though they describe the user's job, or are
# true on the batch host only (SLURM_JOB_GPUS), so the step does not get them. [seen on 22.05]
_STEP_KEEPS = frozenset(
    f"SLURM_{name}"
    for name in (
        "CONF", "JOB_ID", "JOBID", "CLUSTER_NAME", "CLUSTERS", "WORKING_CLUSTER", "JOB_NODELIST", "NODELIST",
        "JOB_NUM_NODES", "NNODES", "JOB_CPUS_PER_NODE", "NODE_ALIASES", "JOB_NAME", "JOB_PARTITION",
        "JOB_END_TIME", "JOB_START_TIME", "MEM_PER_NODE", "SUBMIT_DIR", "SUBMIT_HOST", "JOB_ACCOUNT", "JOB_QOS",
        "NETWORK", "JWT", "RESTART_COUNT", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "JOB_RESERVATION", "JOB_USER",
        "JOB_UID",
    )
)  # fmt: skip


def step_env(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for our srun: the caller's, less what Slurm would take as wishes for the step."""
    dropped = ("SRUN_", "PMI_", "PMIX_", "PMI2_")
    return {
        k: v
        for k, v in env.items()
        if not (k.startswith("SLURM_") and k not in _STEP_KEEPS) and not k.startswith(dropped)
    }


def query_env(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for questions: without the user's own filters and formats for squeue and sinfo."""
    kept = {k: v for k, v in env.items() if not k.startswith(("SQUEUE_", "SINFO_", "SCONTROL_"))}
    return {**kept, "SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"}


def srun_command(
    nodes: Sequence[str],
    program: Sequence[str],
    *,
    name: str = "hpc",
    whole_allocation: bool = True,
    gpus_per_node: int = 0,
    extra: Sequence[str] = (),
) -> list[str]:
    """THE srun: one supervisor on each node.

    Not --unbuffered: stdio is then cut at any byte, and lines of two nodes mix; by default slurmstepd passes whole
    lines up to 1 KiB, and an answer of four nodes took 0.2 ms here. --no-kill: a lost node must not end the others.
    --gres: without it a step of a job that asked by --gpus or --gpus-per-task gets one GPU per node.
    --wait=0, --kill-on-bad-exit=0: the end of one supervisor must not end the others.
    """
    argv = ["srun", f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1", "--overlap"]
    argv += ["--cpu-bind=none", "--mpi=none", "--kill-on-bad-exit=0", "--wait=0", "--no-kill", f"--job-name={name}"]
    if not whole_allocation:
        argv.append(f"--nodelist={','.join(nodes)}")
    if gpus_per_node:
        argv.append(f"--gres=gpu:{gpus_per_node}")
    return [*argv, *extra, *program]


def srun_noise(line: str) -> bool:
    """Lines of srun that say nothing to anybody."""
    return "lacks support for cpu binding" in line or line.strip() == ""


@dataclass(frozen=True)
class SrunNews:
    """What one line of srun's stderr tells: which ranks or nodes are gone, and the line itself."""

    ranks: tuple[int, ...]
    nodes: tuple[str, ...]
    fatal: bool
    text: str


def parse_srun_line(line: str) -> SrunNews:
    """`srun: error: nid0002: task 1: Killed`, `... Node failure on nid0003`, `... Unable to create step ...`."""
    text = line.strip()
    ended = re.search(
        r"srun: error: (\S+): tasks? ([\d,\-\[\]]+): (Killed|Terminated|Aborted|Segm|Exited|Bus|Out)", text
    )
    if ended:
        ranks = tuple(int(r) for r in expand_nodes(f"[{ended.group(2).strip('[]')}]"))
        return SrunNews(ranks, tuple(expand_nodes(ended.group(1))), False, text)
    failed = re.search(r"[Nn]ode failure on (\S+)", text) or re.search(r"launch failed on (?:node )?(\S+?):", text)
    if failed:
        return SrunNews((), tuple(expand_nodes(failed.group(1).rstrip(",:"))), False, text)
    fatal = "Unable to create step" in text or "Unable to confirm allocation" in text or "srun: fatal" in text
    fatal = fatal or bool(
        re.search(r"srun: error: (Unable to allocate|Invalid|.*specification)|unrecognized option", text)
    )
    return SrunNews((), (), fatal, text)


# ---------------------------------------------------------------- asking about one job


def job_command(job_id: str) -> list[str]:
    """All about one job, also for some minutes after its end (MinJobAge), and its GPUs per node (-d)."""
    return ["scontrol", "-o", "-d", "show", "job", job_id]


@dataclass(frozen=True)
class JobInfo:
    """One job as the controller sees it. exit_signal is 0 when the batch script ended by itself."""

    job_id: str
    state: str
    reason: str
    exit_code: int
    exit_signal: int
    nodes: tuple[str, ...]
    num_nodes: int
    partition: str
    start: str  # as Slurm writes it; "" when unknown (not estimated yet, for a pending job)
    run_time_s: float
    limit_s: float | None
    gpus_by_node: tuple[int, ...]
    restarts: int = 0

    @property
    def pending(self) -> bool:
        return self.state in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")

    @property
    def running(self) -> bool:
        return self.state in ("RUNNING", "COMPLETING", "SUSPENDED", "SIGNALING", "STAGE_OUT", "STOPPED", "RESIZING")

    @property
    def ended(self) -> bool:
        return not self.pending and not self.running

    @property
    def time_left_s(self) -> float | None:
        return None if self.limit_s is None else max(0.0, self.limit_s - self.run_time_s)

    @property
    def step_gpus(self) -> int:
        """GPUs that every node of the job has: what one step can ask of each."""
        return min(self.gpus_by_node, default=0)


def parse_job(out: str) -> JobInfo | None:
    """Read `scontrol -o -d show job`; None when there is no such job in it."""

    def field(name: str) -> str:
        match = re.search(rf"(?:^|\s){re.escape(name)}=(\S*)", out)
        value = match.group(1) if match else ""
        return "" if value in ("(null)", "N/A", "Unknown", "None") else value

    if not field("JobId"):
        return None
    code, _, sig = field("ExitCode").partition(":")
    nodes_text = field("NodeList")
    gpus: list[int] = []
    for listed, gres in re.findall(r"\sNodes=(\S+) CPU_IDs=\S* Mem=\S* GRES=(\S*)", out):
        count = sum(int(n) for n in re.findall(r"gpu(?::[^:,()]+)?:(\d+)\(", gres))
        gpus.extend([count] * len(expand_nodes(listed)))
    return JobInfo(
        job_id=field("JobId"),
        state=field("JobState").split("+")[0],
        reason=field("Reason"),
        exit_code=int(code) if code.isdigit() else 0,
        exit_signal=int(sig) if sig.isdigit() else 0,
        nodes=tuple(expand_nodes(nodes_text)) if nodes_text else (),
        num_nodes=int((field("NumNodes") or "0").split("-")[0]),
        partition=field("Partition"),
        start=field("StartTime"),
        run_time_s=parse_clock(field("RunTime")) or 0.0,
        limit_s=parse_clock(field("TimeLimit")),
        gpus_by_node=tuple(gpus),
        restarts=int(field("Restarts") or 0),
    )


def no_such_job(err: str) -> bool:
    return "Invalid job id" in err


def queue_command(partition: str) -> list[str]:
    return ["squeue", "-h", "--states=PENDING", f"--partition={partition}", "-o", "%i|%Q"]


def queue_position(out: str, job_id: str) -> int | None:
    """Our place (from 1) among the pending jobs of the partition, by priority."""
    rows = [line.split("|") for line in out.splitlines() if "|" in line]
    jobs = {row[0].split("_")[0]: int(row[1]) for row in rows if row[1].isdigit()}
    if job_id not in jobs:
        return None
    return 1 + sum(1 for job, rank in jobs.items() if rank > jobs[job_id])


def list_command(job_ids: Sequence[str]) -> list[str]:
    return ["squeue", "-h", f"--jobs={','.join(job_ids)}", "--states=all", "-o", "%i|%T|%r|%L|%D"]


def parse_list(out: str) -> dict[str, tuple[str, str, str]]:
    """Job id -> (state, reason, time left as Slurm writes it)."""
    rows = [line.split("|") for line in out.splitlines()]
    return {row[0]: (row[1], row[2], row[3]) for row in rows if len(row) >= 5}


# ---------------------------------------------------------------- submitting


def job_script(
    directives: Sequence[str], *, cwd: str, exports: Mapping[str, str], setup: Sequence[str], command: Sequence[str]
) -> str:
    """The batch script. It ends in exec: bash runs its traps only after its foreground child, so signals must
    reach hpc-launch itself."""
    lines = ["#!/bin/bash", *(f"#SBATCH {d}" for d in directives), "", f"cd {shlex.quote(cwd)}"]
    lines += [f"export {key}={shlex.quote(value)}" for key, value in exports.items()]
    lines += [*setup, f"exec {shlex.join(command)}"]
    return "\n".join(lines) + "\n"


def directive(flag: str, value: str | None) -> str:
    """One #SBATCH line's content. Slurm splits such a line at white space, so values with some are quoted."""
    if value is None:
        return flag
    return f'{flag}="{value}"' if re.search(r"\s", value) else f"{flag}={value}"


def sbatch_command(script: str, *, extra: Sequence[str] = (), test_only: bool = False) -> list[str]:
    return ["sbatch", *(["--test-only"] if test_only else ["--parsable"]), *extra, script]


def parse_submitted(out: str) -> str:
    """The job id in the answer of `sbatch --parsable` (`4711` or `4711;cluster`; sites print banners before it)."""
    for line in reversed(out.splitlines()):
        match = re.fullmatch(r"(\d+)(?:;\S*)?", line.strip())
        if match:
            return match.group(1)
    raise ValueError(f"no job id in sbatch's answer: {out!r}")


def parse_test_only(err: str) -> str | None:
    """The estimate of `sbatch --test-only` (on stderr, exit code 0): `Job 8 to start at ...`, None if not there."""
    match = re.search(r"Job \d+ (to start at .*)", err)
    return match.group(1) if match else None


def cancel_command(job_id: str) -> list[str]:
    return ["scancel", job_id]


def signal_command(job_id: str, name: str) -> list[str]:
    """Send a signal to the batch script alone, which is hpc-launch; it passes it on to the driver."""
    return ["scancel", "--batch", f"--signal={name}", job_id]


def steps_command(job_id: str) -> list[str]:
    return ["squeue", "-h", "--steps", f"--jobs={job_id}", "-o", "%i|%j"]


def parse_steps(out: str, name: str) -> list[str]:
    """The ids (4711.0) of the job's steps that are called `name`."""
    rows = [line.strip().split("|") for line in out.splitlines()]
    return [row[0] for row in rows if len(row) == 2 and row[1] == name]


def end_steps_command(steps: Sequence[str], *, kill: bool) -> list[str]:
    """To a step scancel sends SIGKILL at once, unless another signal is named."""
    return ["scancel", *([] if kill else ["--signal=TERM"]), *steps]


CONFIG_FILES = (
    "/etc/slurm/slurm.conf", "/run/slurm/conf/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/opt/slurm/etc/slurm.conf",
    "/usr/local/etc/slurm.conf", "/cm/shared/apps/slurm/var/etc/slurm/slurm.conf",
)  # fmt: skip
