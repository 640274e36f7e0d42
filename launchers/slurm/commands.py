"""Slurm in pure make-command / parse-answer pairs: nothing here runs a command or reads a clock.

It exists for one reason. What we say to Slurm, and how we read what it says, can be tested word by word without a
Slurm. It is then tested again on a real one (tests/schedulers). scheduler.py runs the commands, group.py holds the one
srun. All facts were seen on Slurm 22.05.
Rejected: the --json outputs, whose layout changed with nearly every release. Rejected too: pyslurm and the C API (must
match the installed release), and sacct (many sites keep no accounting).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from hpc.launchers.hostnames import expand_nodes
from hpc.launchers.jobscript import folder_lines, setup_lines
from hpc.launchers.scheduler import (
    Allocation,
    BadAllocation,
    Ending,
    Forecast,
    JobInfo,
    Phase,
    Request,
    Share,
    StepVariables,
)  # fmt: skip
from hpc.launchers.slurm.parts import Alike
from hpc.launchers.slurm.words import reason_in_words
from hpc.launchers.units import clock_text, parse_clock

# ---------------------------------------------------------------- inside an allocation

JOB_ID = "SLURM_JOB_ID"


def allocation(env: Mapping[str, str]) -> Allocation | None:
    """The allocation that this environment belongs to; None outside of one. BadAllocation when it makes no sense.

    A heterogeneous job is several jobs of Slurm's; all nodes of all of them are one allocation.
    """
    size = env.get("SLURM_HET_SIZE", "")
    if size.isdigit() and int(size) > 1 and env.get("SLURM_JOB_NODELIST_HET_GROUP_0"):
        return _het_allocation(env, int(size))
    job_id = env.get(JOB_ID) or env.get("SLURM_JOBID")
    listed = env.get("SLURM_JOB_NODELIST") or env.get("SLURM_NODELIST")
    if not job_id or not listed:
        return None
    return Allocation(job_id, _nodes(listed), env.get("SLURMD_NODENAME") or None)


def _het_allocation(env: Mapping[str, str], size: int) -> Allocation:
    ids = tuple(env.get(f"SLURM_JOB_ID_HET_GROUP_{i}", "") for i in range(size))
    listed = tuple(env.get(f"SLURM_JOB_NODELIST_HET_GROUP_{i}", "") for i in range(size))
    if not all((*ids, *listed)):
        raise BadAllocation(f"of its {size} components some have no nodes or no id", "unset SLURM_HET_SIZE")
    parts = tuple(_nodes(text) for text in listed)
    nodes = tuple(node for part in parts for node in part)
    return Allocation(ids[0], nodes, env.get("SLURMD_NODENAME") or None, parts, ids)


def component_of(node: str, env: Mapping[str, str]) -> int | None:
    """Which component of the heterogeneous job of this environment a node is in; None in any other job."""
    try:
        alloc = allocation(env)
    except BadAllocation:
        return None
    parts = alloc.parts if alloc is not None else ()
    return next((i for i, nodes in enumerate(parts) if node in nodes), None)


def _nodes(listed: str) -> tuple[str, ...]:
    try:
        return tuple(expand_nodes(listed))
    except ValueError as error:
        raise BadAllocation(str(error), f"unset {JOB_ID}") from None


# Of Slurm's variables srun needs only these to find the job. All others would be taken as options of the step
# (SLURM_NTASKS, SLURM_GPUS_PER_TASK, SLURM_CPU_BIND, SLURM_HINT ...) though they describe the user's job, or are
# true on the batch host only (SLURM_JOB_GPUS), so the step does not get them. [seen on 22.05]
_STEP_KEEPS = frozenset(
    f"SLURM_{name}"
    for name in (
        "CONF", "JOB_ID", "JOBID", "CLUSTER_NAME", "CLUSTERS", "WORKING_CLUSTER", "JOB_NODELIST", "NODELIST",
        "JOB_NUM_NODES", "NNODES", "JOB_CPUS_PER_NODE", "NODE_ALIASES", "JOB_NAME", "JOB_PARTITION",
        "JOB_END_TIME", "JOB_START_TIME", "HET_SIZE", "SUBMIT_DIR", "SUBMIT_HOST", "JOB_ACCOUNT", "JOB_QOS",
        "NETWORK", "JWT", "RESTART_COUNT", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "JOB_RESERVATION", "JOB_USER",
        "JOB_UID",
    )
)  # fmt: skip

_HET_GROUP = re.compile(r"_HET_GROUP_\d+$")  # at the end of a variable that is about one component

#: What makes devices visible. Slurm sets them for the processes of a node that has some, and leaves them as they are on
#: a node that has none: what is true on the batch host must not get there. [seen on 22.05]
_DEVICES = (
    "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
)  # fmt: skip
_DEVICES_ARE_SLURMS = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE")


def step_env(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for our srun: the caller's, less two things. They are what Slurm would take as wishes for the
    step, and what it said of this node's devices."""
    dropped = ("SRUN_", "PMI_", "PMIX_", "PMI2_")
    devices = _DEVICES if any(name in env for name in _DEVICES_ARE_SLURMS) else ()
    return {
        k: v
        for k, v in env.items()
        if not (k.startswith("SLURM_") and _HET_GROUP.sub("", k) not in _STEP_KEEPS)
        and not k.startswith(dropped)
        and k not in devices
    }


def query_env(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for questions: without the user's own filters and formats for squeue and sinfo."""
    kept = {k: v for k, v in env.items() if not k.startswith(("SQUEUE_", "SINFO_", "SCONTROL_"))}
    return {**kept, "SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"}


#: The variable that tells a task of a step its rank.
RANK_ENV = "SLURM_PROCID"

#: What says which task of whose step a process is. The job stays known (SLURM_JOB_ID, SLURM_CPUS_ON_NODE, ...).
STRIP = StepVariables(
    prefixes=("SLURM_CPU_BIND", "SLURM_PMI", "SLURM_STEP_", "SLURM_SRUN_COMM_"),
    names=tuple(
        f"SLURM_{name}"
        for name in (
            "PROCID", "LOCALID", "NODEID", "GTIDS", "TASK_PID", "MPI_TYPE", "NTASKS", "NPROCS", "NTASKS_PER_NODE",
            "TASKS_PER_NODE", "NTASKS_PER_CORE", "NTASKS_PER_SOCKET", "NTASKS_PER_GPU", "DISTRIBUTION",
            "LAUNCH_NODE_IPADDR", "STEPID", "UMASK", "PTY_PORT", "PTY_WIN_COL", "PTY_WIN_ROW",
        )
    ),
    kept=("SLURM_STEP_GPUS",),  # says which devices, not which rank
)  # fmt: skip


def srun_command(part: Alike, program: Sequence[str], *, name: str = "hpc", extra: Sequence[str] = ()) -> list[str]:
    """The srun of some nodes: one supervisor on each.

    Not --unbuffered: stdio is then cut at any byte, and lines of two nodes mix. By default slurmstepd passes whole
    lines up to 1 KiB; an answer of four nodes took 0.2 ms here. --no-kill: a lost node must not end the others.
    --mem=0: all that the job has on each node, however it asked for it. --wait=0, --kill-on-bad-exit=0: the end of one
    supervisor must not end the others.
    """
    count = len(part.nodes)
    argv = ["srun", f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1", "--overlap", "--mem=0"]
    argv += ["--cpu-bind=none", "--mpi=none", "--kill-on-bad-exit=0", "--wait=0", "--no-kill", f"--job-name={name}"]
    return [*argv, *part.options(), *extra, *program]


#: What MPI programs find each other by, the best first: PMI-2 is spoken by MPICH and its kin, PMIx by Open MPI.
MPI_KINDS = ("pmi2", "pmix")


def mpi_command(part: Alike, per_node: int, cpus: int, kind: str) -> list[str]:
    """The srun of an MPI program on some nodes, beside our supervisors. With one process that failed all end."""
    count = len(part.nodes)
    argv = ["srun", f"--nodes={count}", f"--ntasks={count * per_node}", f"--ntasks-per-node={per_node}"]
    argv += [f"--cpus-per-task={cpus}", "--overlap", "--mem=0", "--kill-on-bad-exit=1", "--wait=0"]
    argv += ["--quit-on-interrupt", *([f"--mpi={kind}"] if kind else [])]
    return [*argv, *part.options()]


def mpi_list_command() -> list[str]:
    """What srun knows about MPI. It answers on stderr."""
    return ["srun", "--mpi=list"]


def choose_mpi(config: str, listed: str) -> str | None:
    """The value of --mpi by what the cluster says: "" for its own default, None where it has nothing for MPI."""
    default = re.search(r"^MpiDefault\s*=\s*(\S+)", config, re.MULTILINE)
    if default is not None and default.group(1) not in ("none", "(null)"):
        return ""
    words = listed.replace(":", " ").split()
    return next((kind for kind in MPI_KINDS if kind in words), None)


def srun_noise(line: str) -> bool:
    """Lines of srun that say nothing to anybody."""
    return "lacks support for cpu binding" in line or line.strip() == ""


@dataclass(frozen=True)
class SrunNews:
    """What one line of srun's stderr tells: which ranks or nodes are gone, and the line itself.

    refused: nothing could be started on these nodes; srun ends the tasks on all others then.
    """

    ranks: tuple[int, ...]
    nodes: tuple[str, ...]
    fatal: bool
    text: str
    refused: bool = False


def parse_srun_line(line: str) -> SrunNews:
    """`srun: error: nid0002: task 1: Killed`, `... Node failure on nid0003`, `... Unable to create step ...`."""
    text = line.strip()
    ended = re.search(
        r"srun: error: (\S+): tasks? ([\d,\-\[\]]+): (Killed|Terminated|Aborted|Segm|Exited|Bus|Out)", text
    )
    if ended:
        ranks = tuple(int(r) for r in expand_nodes(f"[{ended.group(2).strip('[]')}]"))
        return SrunNews(ranks, tuple(expand_nodes(ended.group(1))), False, text)
    refused = re.search(r"launch (?:for \S+ )?failed on (?:node )?(\S+?):", text)
    failed = refused or re.search(r"[Nn]ode failure on (\S+)", text)
    if failed:
        return SrunNews((), tuple(expand_nodes(failed.group(1).rstrip(",:"))), False, text, refused is not None)
    fatal = "Unable to create step" in text or "Unable to confirm allocation" in text or "srun: fatal" in text
    fatal = fatal or bool(
        re.search(r"srun: error: (Unable to allocate|Invalid|.*specification)|unrecognized option", text)
    )
    return SrunNews((), (), fatal, text)


# ---------------------------------------------------------------- asking about one job


def job_command(job_id: str) -> list[str]:
    """All about one job, also for some minutes after its end (MinJobAge), and what it has of each node (-d)."""
    return ["scontrol", "-o", "-d", "show", "job", job_id]


_QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_STOPPED = ("SUSPENDED", "STOPPED")
_RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "SIGNALING", "STAGE_OUT", "STOPPED", "RESIZING")
_ENDINGS: Mapping[str, Ending] = {
    **dict.fromkeys(("CANCELLED", "DEADLINE"), "cancelled"),
    "TIMEOUT": "timeout",
    **dict.fromkeys(("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED"), "lost"),
}


def phase_of(state: str) -> tuple[Phase, Ending]:
    """Slurm's word for the state of a job in the words of all schedulers."""
    if state in _QUEUED:
        return "queued", ""
    if state in _RUNNING:
        return "running", ""
    return "ended", _ENDINGS.get(state, "exit")


def parse_job(out: str) -> JobInfo | None:
    """Read `scontrol -o -d show job`; None when there is no such job in it.

    A heterogeneous job has one line for each component, its first one first: it is over when the time of any is.
    """
    first, *others = [line for line in out.splitlines() if _field(line, "JobId")] or [""]
    job = _parse_component(first)
    leader = _field(first, "HetJobId")
    if job is None or not leader:
        return job
    parts = [_parse_component(line) for line in others if _field(line, "HetJobId") == leader]
    for part in parts:
        if part is None:
            continue
        job = replace(job, nodes=(*job.nodes, *part.nodes), granted={**job.granted, **part.granted})
        if part.time_left_s is not None and (job.time_left_s is None or part.time_left_s < job.time_left_s):
            job = replace(job, limit_s=part.limit_s, run_time_s=part.run_time_s)
    return job


def _field(line: str, name: str) -> str:
    match = re.search(rf"(?:^|\s){re.escape(name)}=(\S*)", line)
    value = match.group(1) if match else ""
    return "" if value in ("(null)", "N/A", "Unknown", "None") else value


def _parse_component(line: str) -> JobInfo | None:
    if not _field(line, "JobId"):
        return None
    code, _, sig = _field(line, "ExitCode").partition(":")
    nodes_text = _field(line, "NodeList")
    granted: dict[str, Share] = {}
    for listed, mem, gres in re.findall(r"\sNodes=(\S+) CPU_IDs=\S* Mem=(\d*)\S* GRES=(\S*)", line):
        gpus = sum(int(n) for n in re.findall(r"gpu(?::[^:,()]+)?:(\d+)\(", gres))
        granted |= dict.fromkeys(expand_nodes(listed), Share(gpus, int(mem or 0) or None))
    state = _field(line, "JobState").split("+")[0]
    nodes = tuple(expand_nodes(nodes_text)) if nodes_text else ()
    batch_host = _field(line, "BatchHost") if _field(line, "BatchFlag") == "1" else ""
    phase, ending, why = _standing(state, _field(line, "Reason"), nodes, batch_host)
    preempted = bool(_field(line, "PreemptTime"))
    return JobInfo(
        job_id=_field(line, "JobId"),
        phase=phase,
        state=state,
        ending=ending,
        reason=_field(line, "Reason"),
        why=why,
        exit_code=int(code) if code.isdigit() else 0,
        exit_signal=int(sig) if sig.isdigit() else 0,
        nodes=nodes,
        partition=_field(line, "Partition"),
        start=_field(line, "StartTime"),
        run_time_s=parse_clock(_field(line, "RunTime")) or 0.0,
        limit_s=_whole_time(line) if preempted else parse_clock(_field(line, "TimeLimit")),
        preempted=preempted,
        granted=granted,
        stopped=state in _STOPPED,
        runs_again=_field(line, "Requeue") == "1",
    )


def _whole_time(line: str) -> float | None:
    """From the start of a job to its end, which is not that of its limit where its nodes are taken. [seen on 22.05]"""
    limit_s = parse_clock(_field(line, "TimeLimit"))
    try:
        start, end = (datetime.fromisoformat(_field(line, name)) for name in ("StartTime", "EndTime"))
    except ValueError:
        return limit_s
    whole_s = (end - start).total_seconds()
    return whole_s if limit_s is None else min(limit_s, whole_s)


def _standing(state: str, reason: str, nodes: Sequence[str], batch_host: str) -> tuple[Phase, Ending, str]:
    """Where a job is, how it ended, and why. The node that runs the script leaves the job's nodes when it fails; a job
    with --no-kill goes on without it, to its time limit. Of a job that completes only the nodes that are not done yet
    are listed: there its absence says nothing. [seen on 22.05]"""
    phase, ending = phase_of(state)
    if phase != "queued" and state != "COMPLETING" and nodes and batch_host and batch_host not in nodes:
        return phase, "lost", f"its first node, {batch_host}, where its script ran, has failed"
    return phase, ending, reason_in_words(reason)


def cluster_command() -> list[str]:
    """How the cluster is set up."""
    return ["scontrol", "show", "config"]


def parse_counts_gpus(out: str) -> bool:
    """Whether GPUs are among what the cluster grants."""
    types = re.search(r"^GresTypes\s*=\s*(\S*)", out, re.MULTILINE)
    return types is not None and "gpu" in types.group(1).split(",")


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
    return ["squeue", "-h", f"--jobs={','.join(job_ids)}", "--states=all", "-o", "%i|%T|%r|%L|%N|%B"]


def parse_list(out: str) -> dict[str, JobInfo]:
    """The jobs of such a list by their ids."""
    found: dict[str, JobInfo] = {}
    for row in (line.split("|") for line in out.splitlines()):
        if len(row) >= 6:
            job_id, state, reason, left, listed, batch_host = row[:6]
            nodes = tuple(expand_nodes(listed)) if listed else ()
            phase, ending, why = _standing(state, reason, nodes, batch_host.replace("n/a", ""))
            found[job_id] = JobInfo(
                job_id, phase, state, ending, reason, why, nodes=nodes, left=left, stopped=state in _STOPPED
            )
    return found


# ---------------------------------------------------------------- submitting


#: What each field of a request becomes, in the order of the job script.
COLUMN: Mapping[str, str] = {
    "nodes": "--nodes",
    "time": "--time",
    "partition": "--partition",
    "account": "--account",
    "qos": "--qos",
    "constraint": "--constraint",
    "job_name": "--job-name",
    "output": "--output",
    "dependency": "--dependency",
    "gpus": "--gpus",
    "gpus_per_node": "--gpus-per-node",
    "cpus_per_task": "--cpus-per-task",
    "mem": "--mem",
    "exclusive": "--exclusive",
    "reservation": "--reservation",
    "signal": "--signal",
    "mail_type": "--mail-type",
    "requeue": "--requeue",
}


def directives(request: Request) -> list[str]:
    """The lines of the job script that are for sbatch: what was asked for, then what every job of ours needs.

    --ntasks-per-node=1: one task of ours runs on each node; for a range of nodes it would make Slurm give the least.
    --no-requeue: a second run could overwrite what the first wrote. Where one is asked for all the same, its output
    comes after the first one's (--open-mode). --no-kill: a lost node must not end the others.
    """
    least, most = request.nodes
    ours = ("job_name", "output")
    asked = [directive(flag, _value(request, name)) for name, flag in COLUMN.items() if name not in ours]
    found = [line for line in asked if line]
    found += [directive("--job-name", request.job_name)]
    found += ["--ntasks-per-node=1"] if least == most else []
    found += [directive("--output", request.output), "--open-mode=append"]
    found += ["--no-kill"] if request.requeue else ["--no-requeue", "--no-kill"]
    return [line for line in found if line]


def _value(request: Request, name: str) -> str | bool | None:
    """The value of a directive: True for one without, None and False where nothing was asked for."""
    value = getattr(request, name)
    if name == "nodes":
        least, most = value
        return str(most) if least == most else f"{least}-{most}"
    if name == "time" and value is not None:
        return clock_text(value)
    return value if value is None or isinstance(value, bool) else str(value)


def job_script(lines: Sequence[str], *, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
    """The batch script. It ends in exec: bash runs its traps only after its foreground child, so signals must
    reach hpc-launch itself."""
    text = ["#!/bin/bash", *(f"#SBATCH {line}" for line in lines), "", *folder_lines(cwd)]
    text += [*setup_lines(setup), f"exec {shlex.join(command)}"]
    return "\n".join(text) + "\n"


def directive(flag: str, value: str | bool | None) -> str:
    """One #SBATCH line's content, "" for nothing. Slurm splits it at white space, and ends it at a #. Quotes and
    backslashes mean what they mean to a shell: what has any of these is quoted. [seen on 22.05]"""
    if value is None or value is False:
        return ""
    if value is True:
        return flag
    if not re.search(r"""[\s#"'\\]""", value):
        return f"{flag}={value}"
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    return f'{flag}="{escaped}"'


def sbatch_command(script: str, *, extra: Sequence[str] = (), test_only: bool = False) -> list[str]:
    return ["sbatch", *(["--test-only"] if test_only else ["--parsable"]), *extra, script]


#: Which variables of sbatch stand against a directive, where the name does not say so (--open-mode: SBATCH_OPEN_MODE).
_AGAINST = {
    "--time": ("TIMELIMIT",),
    "--mem": ("MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU"),
    "--output": ("OUTPUT", "ERROR"),
    **dict.fromkeys(("--no-requeue", "--requeue"), ("REQUEUE", "NO_REQUEUE")),
    "--no-kill": ("NO_KILL",),
    "--cpus-per-task": ("CPUS_PER_TASK", "CPUS_PER_GPU"),
}


def submit_env(env: Mapping[str, str], lines: Sequence[str]) -> dict[str, str]:
    """The environment for sbatch. It would put its variables (SBATCH_PARTITION, from a profile) before the directives
    in `lines`: those that say otherwise are left out. SBATCH_WAIT would let it end with the job. What another job was
    granted, from within which this one is submitted, is none of its business: some of that would contradict it."""
    if JOB_ID in env:
        env = {name: value for name, value in run_in_env(env).items() if name not in _DEVICES}
    dropped = {"SBATCH_WAIT"}
    for line in lines:
        flag = re.split(r"[\s=]", line, maxsplit=1)[0]
        names = _AGAINST.get(flag, (flag[2:].replace("-", "_").upper(),))
        dropped.update(f"SBATCH_{name}" for name in names)
    return {name: value for name, value in env.items() if name not in dropped}


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


def parse_forecast(err: str) -> Forecast:
    """The same as data: `Job 8 to start at 2026-11-21T03:54:03 using 4 processors on nodes ...`; the time is local."""
    match = re.search(r"Job \d+ to start at (\d+-\d+-\d+T\d+:\d+:\d+)(?: using (\d+) processors)?", err)
    if match is None:
        return Forecast(why="Slurm does not tell: it has made no plan for such a job yet")
    return Forecast(datetime.fromisoformat(match.group(1)).timestamp(), cpus=int(match.group(2) or 0))


def waiting_command(partition: str | None) -> list[str]:
    """The jobs that wait, with the starts that Slurm expects of them."""
    where = [f"--partition={partition}"] if partition else []
    return ["squeue", "-h", "--start", "--states=PENDING", *where, "-o", "%i|%S"]


def waiting_in_words(out: str) -> str:
    """`3 jobs wait, and the last of them is expected to start at ...`; "" where none does."""
    rows = [line.split("|") for line in out.splitlines() if "|" in line]
    starts = sorted(row[1] for row in rows if re.fullmatch(r"\d+-\d+-\d+T\d+:\d+:\d+", row[1]))
    if not rows:
        return ""
    many = "1 job waits" if len(rows) == 1 else f"{len(rows)} jobs wait"
    last = f"the last start that Slurm expects of them is {starts[-1].replace('T', ' ')}" if starts else ""
    return f"{many} there, and {last or 'Slurm has not planned their starts yet'}"


def cancel_command(job_id: str) -> list[str]:
    return ["scancel", job_id]


def requeue_command(job_id: str) -> list[str]:
    return ["scontrol", "requeue", job_id]


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


def output_file(output: str, job_id: str, job_name: str, user: str) -> str | None:
    """The file of --output once the job's id is known; None when the name has patterns that only Slurm can fill."""
    known = {"%j": job_id, "%A": job_id, "%x": job_name, "%u": user, "%%": "%"}
    if "%" in re.sub(r"%[jAxu%]", "", output) or "\\" in output:  # a backslash is none of the name's to Slurm
        return None
    return re.sub(r"%[jAxu%]", lambda match: known[match.group()], output)


# ---------------------------------------------------------------- within a job


def run_in_command(job_id: str, host: str, argv: Sequence[str]) -> list[str]:
    """A step beside ours on one node of a job. --mem=0: it takes no part of the job's memory."""
    step = ["srun", f"--jobid={job_id}", "--overlap", "--quiet", "--nodes=1", "--ntasks=1", "--mem=0"]
    return [*step, f"--nodelist={host}", "--chdir=/", *argv]


def run_in_env(env: Mapping[str, str]) -> dict[str, str]:
    """Its environment: nothing of the job that the caller may be in, and none of the user's own wishes for steps."""
    return {k: v for k, v in env.items() if not k.startswith(("SLURM_", "SRUN_")) or k == "SLURM_CONF"}


def sbcast_command(job_id: str, source: str, target: str) -> list[str]:
    """A file to the same path on every node of a job: read once, and passed on by the slurmds as a tree."""
    return ["sbcast", f"--jobid={job_id}", source, target]


CONFIG_FILES = (
    "/etc/slurm/slurm.conf", "/run/slurm/conf/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/opt/slurm/etc/slurm.conf",
    "/usr/local/etc/slurm.conf", "/cm/shared/apps/slurm/var/etc/slurm/slurm.conf",
)  # fmt: skip
