"""PBS in pure make-command / parse-answer pairs: nothing here runs a command or reads a clock.

The same reason as for any scheduler: what we say and how we read what is said can be tested word by word. scheduler.py
runs the commands, group.py starts the nodes. All facts were seen on OpenPBS 23.06. What Torque says otherwise is in
torque.py, and dialects.py has the two side by side; its answers are read here, too.
Rejected: qstat's table (cuts names), its JSON (of several jobs it has the first only), the C API (must match the
installed release).
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hpc.launchers.jobscript import folder_lines, setup_lines
from hpc.launchers.pbs.words import exit_in_words, reason_in_words
from hpc.launchers.scheduler import (
    Allocation,
    BadAllocation,
    Ending,
    JobInfo,
    Phase,
    Request,
    Share,
    StepVariables,
)  # fmt: skip
from hpc.launchers.units import clock_text, memory_bytes, parse_clock

# ---------------------------------------------------------------- where it is

CONFIG_FILE = "/etc/pbs.conf"


def parse_config(text: str) -> dict[str, str]:
    """The lines `PBS_EXEC=/opt/pbs` of PBS's own configuration file."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.lstrip().startswith("#"):
            found[name.strip()] = value.strip().strip("\"'")
    return found


def is_open_pbs(version: str) -> bool:
    """Whether `qsub --version` has answered as OpenPBS and PBS Pro do; Torque and wrappers do not."""
    return re.search(r"pbs_version\s*=", version) is not None


# ---------------------------------------------------------------- inside an allocation

JOB_ID = "PBS_JOBID"
NODE_FILE = "PBS_NODEFILE"


def allocation(env: Mapping[str, str], node_file: str) -> Allocation | None:
    """The allocation that this environment belongs to, with the text of its node file; None outside of one.

    The file has one line for each MPI process, in the order of the chunks; Torque's has one for each processor. The job
    script runs on the first. BadAllocation when it makes no sense.
    """
    job_id = env.get(JOB_ID)
    nodes = tuple(dict.fromkeys(node_file.split()))
    if not job_id or not nodes:
        return None
    if env.get("PBS_NODENUM", "0") != "0":
        why = f"this is not the first node of job {job_id} ({nodes[0]}), which alone can start the others"
        raise BadAllocation(why, f"unset {JOB_ID}")
    return Allocation(job_id, nodes, nodes[0])


#: What says which task of whose job a process is. The job stays known (PBS_JOBID, PBS_QUEUE, ...), and so does what it
#: was granted (NCPUS).
STEP_VARIABLES = StepVariables(
    prefixes=("PMI_", "PMIX_", "PMI2_"),
    names=("PBS_TASKNUM", "PBS_NODENUM", "PBS_VNODENUM", "PBS_MOMPORT", "PBS_JOBCOOKIE"),
)

#: Variables that PBS gives each task by itself, and that say something of its own node.
_OF_THE_NODE = frozenset(
    ("NCPUS", "OMP_NUM_THREADS", "TMPDIR", "HOSTNAME", "HOST", "PWD", "OLDPWD", "SHLVL", "_", "XDG_RUNTIME_DIR")
)
_DEVICES = re.compile(
    r"CUDA_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|ZE_AFFINITY_MASK|GPU_DEVICE_ORDINAL"
)


def carried(env: Mapping[str, str]) -> dict[str, str]:
    """The part of our environment that the processes on the other nodes are to have: PBS itself carries none of it.

    Not what belongs to this node, nor what a shell cannot name.
    """
    return {
        name: value
        for name, value in env.items()
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
        and name not in _OF_THE_NODE
        and not _DEVICES.fullmatch(name)
        and not name.startswith("PBS_")
    }


def task_script(env: Mapping[str, str], cwd: str, program: Sequence[str]) -> str:
    """What each other node runs, by /bin/sh FILE RANK: the program with that rank, in our environment and folder.

    A file that only the user can read: on a command line every user would see the values.
    """
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(carried(env).items())]
    return "\n".join([*lines, f"cd {shlex.quote(cwd)} 2>/dev/null", f'exec {shlex.join(program)} "$1"']) + "\n"


def task_command(starter: str, host: str, script: str, rank: int, extra: Sequence[str] = ()) -> list[str]:
    """Start the task of one rank on its node by pbs_tmrsh (`starter`), and end as it ends.

    Rejected: pbsdsh, which says nothing of how the task ended. One pbsdsh for all nodes starts a task for each MPI
    process, and says nothing of its rank.
    """
    return [starter, host, *extra, "/bin/sh", script, str(rank)]


def grants(hosts: Sequence[str], job: JobInfo) -> list[dict[str, Any]]:
    """What each rank was granted, for the start message. Where nobody in the job has a GPU by PBS's count, PBS may not
    count them."""
    counts_gpus = any(share.gpus for share in job.granted.values())
    found: list[dict[str, Any]] = []
    for host in hosts:
        share = job.granted.get(host)
        gpus = share.gpus if share is not None and counts_gpus else None
        found.append({"nodes": 1, "mem_mb": share.mem_mb if share is not None else None, "gpus": gpus})
    return found


# ---------------------------------------------------------------- asking about jobs


def job_command(job_ids: Sequence[str], *, ended_too: bool = True) -> list[str]:
    """All about these jobs; -x: also of those that have ended, where the site keeps them for a while."""
    return ["qstat", *(["-x"] if ended_too else []), "-f", *job_ids]


def no_history(err: str) -> bool:
    """Whether the site keeps nothing of jobs that have ended: the question has to be asked without them."""
    return "not configured to maintain job history" in err


UNKNOWN_JOB = 153  # what qstat, qdel and qsig end with


def no_such_job(err: str) -> bool:
    return "Unknown Job Id" in err or "Job has finished" in err


def parse_jobs(out: str, now: float) -> dict[str, JobInfo]:
    """Jobs in such an answer by their ids. now: seconds since 1970: PBS says minutes late how long a job has run."""
    return {job_id: _job(job_id, facts, now) for job_id, facts in blocks(out, "Job Id").items()}


def blocks(out: str, kind: str) -> dict[str, dict[str, str]]:
    """The long form of qstat: `Job Id: 4711.server`, then lines `    name = value`, whose rest follows after a tab."""
    found: dict[str, dict[str, str]] = {}
    facts: dict[str, str] = {}
    by_tabs = re.search(rf"^{kind}:\t", out, re.MULTILINE) is not None  # so wrappers of others begin each line
    for line in out.replace("\n\t", "\n    " if by_tabs else "").splitlines():
        if line.startswith(f"{kind}:"):
            facts = found.setdefault(line.partition(":")[2].strip(), {})
        elif line.startswith("    ") and " = " in line:
            name, _, value = line.strip().partition(" = ")
            facts[name] = value
    return found


_PHASES: Mapping[str, Phase] = {
    **dict.fromkeys("QHWTMB", "queued"),
    **dict.fromkeys("RESU", "running"),
    **dict.fromkeys("FXC", "ended"),
}
_STATES = {
    "Q": "queued", "H": "held", "W": "waiting", "T": "in transit", "M": "moved", "B": "begun", "R": "running",
    "E": "exiting", "S": "suspended", "U": "suspended", "F": "finished", "X": "finished", "C": "completed",
}  # fmt: skip
_TERMINATED = "91"  # substate of a job that was deleted
_KILLED_AT_WALLTIME = -29  # the server's own exit codes are below zero
_TORQUE_KILLED_AT_WALLTIME = -11
_SIGNALS_FROM = 256
_TORQUE_DELETED = _SIGNALS_FROM + 15


def _job(job_id: str, facts: Mapping[str, str], now: float) -> JobInfo:
    letter = facts.get("job_state", "")
    phase = _PHASES.get(letter, "ended")
    comment = facts.get("comment", "")
    limit_s = parse_clock(facts.get("Resource_List.walltime", ""))
    run_time_s = parse_clock(facts.get("resources_used.walltime", "")) or 0.0
    began = _moment(_start(facts, phase))
    if phase == "running" and began is not None:
        run_time_s = max(run_time_s, now - began.timestamp())
    torques = "exit_status" in facts
    status = _number(facts.get("exit_status" if torques else "Exit_status", ""))
    code = max(0, status) if status is not None else 0
    return JobInfo(
        job_id=job_id,
        phase=phase,
        state=_STATES.get(letter, letter),
        ending="" if phase != "ended" else _torques_ending(status) if torques else _ending(facts, status),
        reason=comment if phase != "running" else "",
        why=(exit_in_words(status, torques=torques) or reason_in_words(comment, letter)) if phase != "running" else "",
        exit_code=code if code < _SIGNALS_FROM else 0,
        exit_signal=code - _SIGNALS_FROM if code >= _SIGNALS_FROM else 0,
        nodes=tuple(_hosts(facts.get("exec_host", ""))),
        partition=facts.get("queue", ""),
        start=began.isoformat() if began is not None else "",
        run_time_s=run_time_s,
        limit_s=limit_s,
        left=clock_text(max(0.0, limit_s - run_time_s)) if limit_s is not None and phase == "running" else "",
        granted=_granted(facts.get("exec_vnode", "")) or _torques_granted(facts),
        stopped=letter in ("S", "U"),
        runs_again=facts.get("Rerunable") == "True",
    )


def _ending(facts: Mapping[str, str], status: int | None) -> Ending:
    if status == _KILLED_AT_WALLTIME:
        return "timeout"
    if status is not None and status < 0:
        return "lost"
    if facts.get("substate") == _TERMINATED or status is None:
        return "cancelled"
    return "exit"


def _torques_ending(status: int | None) -> Ending:
    """Torque tells a job that was deleted from one that ended by a signal by nothing else than which signal it was."""
    if status == _TORQUE_KILLED_AT_WALLTIME:
        return "timeout"
    if status is None or status == _TORQUE_DELETED:
        return "cancelled"
    return "lost" if status < 0 else "exit"


def _start(facts: Mapping[str, str], phase: Phase) -> str:
    """When it began, as the server writes it, or when it may begin. Torque: `start_time`, and where an old one or a
    wrapper has none, when the job last changed: that is when it began."""
    began = facts.get("stime") or facts.get("start_time")
    later = {"queued": "estimated.start_time", "running": "mtime"}.get(phase, "")
    return began or facts.get(later, "")


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _moment(text: str) -> datetime | None:
    """`Sun Nov 29 13:30:11 2026`, or seconds since 1970, in local time."""
    if text.isdigit():
        return datetime.fromtimestamp(int(text))
    try:
        return datetime.strptime(text, "%a %b %d %H:%M:%S %Y")
    except ValueError:
        return None


def _hosts(exec_host: str) -> list[str]:
    """`px1/0*2+px2/1` -> the hosts, each once, in order."""
    return list(dict.fromkeys(part.partition("/")[0] for part in exec_host.split("+") if part))


def _granted(exec_vnode: str) -> dict[str, Share]:
    """`(px1:ncpus=2:mem=1048576kb:ngpus=1)+(px2:ncpus=2)` -> what each has; parts of one node add up."""
    found: dict[str, Share] = {}
    for part in re.findall(r"[^()+]+", exec_vnode):
        name, _, rest = part.partition(":")
        given = dict(item.partition("=")[::2] for item in rest.split(":") if item)
        old = found.get(name, Share())
        mem = _kilobytes(given.get("mem", ""))
        mem_mb = old.mem_mb if mem is None else (old.mem_mb or 0) + (mem >> 10)
        found[name] = Share(old.gpus + int(given.get("ngpus", 0) or 0), mem_mb)
    return found


def _torques_granted(facts: Mapping[str, str]) -> dict[str, Share]:
    """Torque counts memory for the whole job (`mem`) or for each process of it (`pmem`), and names its GPUs one by one:
    `n1-gpu/0+n2-gpu/0`. `exec_host` is n1/0-3+n2/0-3, in older ones n1/3+n1/2+..."""
    processors = Counter[str]()
    for part in facts.get("exec_host", "").split("+"):
        host, _, used = part.partition("/")
        processors[host] += indices(used)
    gpus = Counter(part.partition("-gpu/")[0] for part in facts.get("exec_gpus", "").split("+") if part)
    all_kb = _kilobytes(facts.get("Resource_List.mem", ""))
    each_kb = _kilobytes(facts.get("Resource_List.pmem", ""))
    if each_kb is None and all_kb is not None:
        each_kb = all_kb // max(1, processors.total())
    if each_kb is None and not gpus:
        return {}
    return {
        host: Share(gpus[host], None if each_kb is None else each_kb * count >> 10)
        for host, count in processors.items()
        if host
    }


def indices(text: str) -> int:
    """How many there are in Torque's `0-3,8`."""
    spans = re.findall(r"(\d+)(?:-(\d+))?", text)
    return sum(int(last or first) - int(first) + 1 for first, last in spans)


def _kilobytes(text: str) -> int | None:
    match = re.fullmatch(r"(\d+)([kmgt]?)b?", text)
    if match is None:
        return None
    return int(match[1]) << {"k": 0, "m": 10, "g": 20, "t": 30}.get(match[2], 0) if match[2] else int(match[1]) >> 10


# ---------------------------------------------------------------- submitting

#: What each field of a request becomes.
COLUMN: Mapping[str, str] = {
    "nodes": "-l select=N:...",
    "time": "-l walltime",
    "partition": "-q",
    "account": "-A",
    "constraint": "-l select=...:C",
    "job_name": "-N",
    "output": "-j oe -k oed -o",
    "dependency": "-W depend",
    "gpus_per_node": "-l select=...:ngpus",
    "cpus_per_task": "-l select=...:ncpus",
    "mem": "-l select=...:mem",
    "exclusive": "-l place=scatter:excl",
    "mail_type": "-m",
}

MAILS = {"BEGIN": "b", "END": "e", "FAIL": "a", "NONE": "n", "ALL": "abe"}


def options(request: Request, *, live: bool = True) -> list[str]:
    """qsub's options: what was asked for, then what every job of ours needs.

    mpiprocs=1, scatter: one chunk on each node, one line for each in the node file. -r n: a second run could overwrite
    what the first wrote. -k oed (live): the output is written where it belongs while the job runs.
    """
    chunk = [f"select={request.nodes[0]}", f"ncpus={request.cpus_per_task or 1}", "mpiprocs=1"]
    if request.mem:
        chunk.append(f"mem={memory_bytes(request.mem) >> 20}mb")
    if request.gpus_per_node:
        chunk.append(f"ngpus={request.gpus_per_node.rpartition(':')[2]}")
    if request.gpus_per_node and ":" in request.gpus_per_node:
        chunk.append(f"gpu_type={request.gpus_per_node.partition(':')[0]}")
    if request.constraint:
        chunk.append(request.constraint)
    found = ["-N", request.job_name or "hpc", "-l", ":".join(chunk)]
    found += ["-l", "place=scatter:excl" if request.exclusive else "place=scatter"]
    if request.time is not None:
        found += ["-l", f"walltime={walltime(request.time)}"]
    for flag, value in (("-q", request.partition), ("-A", request.account)):
        found += [flag, value] if value else []
    if request.dependency:
        found += ["-W", f"depend={request.dependency}"]
    if request.mail_type:
        found += ["-m", "".join(MAILS.get(word, word.lower()) for word in request.mail_type.upper().split(","))]
    found += ["-j", "oe", *(["-k", "oed"] if live else [])]
    return [*found, *(["-o", request.output] if request.output else []), "-r", "n"]


def walltime(seconds: float) -> str:
    """HH:MM:SS; PBS knows no days."""
    whole = int(seconds) + (seconds % 1 > 0)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def job_script(*, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
    """The job script, as a login shell for what the site has in its profiles (modules). It ends in exec: bash runs its
    traps only after its foreground child, so signals must reach hpc-launch itself."""
    lines = ["#!/bin/bash -l", *folder_lines(cwd), *setup_lines(setup), f"exec {shlex.join(command)}"]
    return "\n".join(lines) + "\n"


def qsub_command(qsub: str, script: str, request: Request, *, brought: bool = False) -> list[str]:
    """Submit the script as a program, not as a script of PBS. PBS would run that under another shell, which a signal
    to the job ends at once. -f: else qsub leaves a process on the login node for a minute.

    brought: as a script of PBS after all, which brings it to the job's first node, for this user alone to read.
    """
    if brought:
        return [qsub, "-f", *options(request, live=False), *request.submit_arg, "-S", "/bin/bash", script]
    return [qsub, "-f", *options(request), *request.submit_arg, "--", "/bin/bash", "-l", script]


def parse_submitted(out: str) -> str:
    """The job id in qsub's answer (`4711.server`; sites print banners before it)."""
    for line in reversed(out.splitlines()):
        if re.fullmatch(r"\d+(\[\])?(\.[\w.-]+)?", line.strip()):
            return line.strip()
    raise ValueError(f"no job id in qsub's answer: {out!r}")


def cancel_command(job_id: str) -> list[str]:
    return ["qdel", job_id]


def signal_command(job_id: str, name: str) -> list[str]:
    """To every process of the job script on the first node; whoever got it twice is sorted out by hpc-launch."""
    return ["qsig", "-s", name, job_id]


def output_file(output: str, job_id: str) -> str:
    """The file of --output: PBS knows one pattern, which only its server fills."""
    return output.replace("^array_index^", job_id.partition("[")[2].partition("]")[0])


def nodes_command() -> list[str]:
    return ["pbsnodes", "-a"]


def parse_nodes(out: str) -> list[dict[str, str]]:
    """The nodes of such a list: a name at the beginning of a line, then lines `     name = value`."""
    found: list[dict[str, str]] = []
    for line in out.splitlines():
        if line and not line[0].isspace():
            found.append({"name": line.strip()})
        elif " = " in line and found:
            name, _, value = line.strip().partition(" = ")
            found[-1][name] = value
    return found


def free_nodes(request: Request, nodes: Sequence[Mapping[str, str]]) -> int:
    """How many nodes have what is asked of each free. Nodes of a queue are for it alone, and it has no other ones."""
    bound = [node for node in nodes if node.get("queue") and node["queue"] == request.partition]
    usable = bound or [node for node in nodes if not node.get("queue")]
    asked = {
        "ncpus": request.cpus_per_task or 1,
        "ngpus": int((request.gpus_per_node or "").rpartition(":")[2] or 0),
        "mem": memory_bytes(request.mem) >> 10 if request.mem else 0,
    }
    return sum(node.get("state") == "free" and _has_free(node, asked, request.exclusive) for node in usable)


def _has_free(node: Mapping[str, str], asked: Mapping[str, int], whole: bool) -> bool:
    def amount(kind: str, name: str) -> int:
        text = node.get(f"resources_{kind}.{name}", "")
        return (_kilobytes(text) if name == "mem" else _number(text)) or 0

    enough = all(amount("available", name) - amount("assigned", name) >= value for name, value in asked.items())
    return enough and not (whole and any(amount("assigned", name) for name in asked))


def waiting_command(queue: str | None) -> list[str]:
    """The jobs of a queue with the starts that the scheduler expects of them, where it does that (-T)."""
    return ["qstat", "-T", "-w", *([queue] if queue else [])]


def waiting_in_words(out: str) -> str:
    """`3 jobs wait there, and ...`; "" where none does."""
    rows = [line.split() for line in out.splitlines() if re.match(r"\d+(\[\d*\])?\.", line)]
    starts = [" ".join(row[10:]) for row in rows if len(row) > 10 and row[9] == "Q"]
    if not starts:
        return ""
    many = "1 job waits" if len(starts) == 1 else f"{len(starts)} jobs wait"
    told = [start for start in starts if start != "--"]
    last = f"the start that PBS expects of the last of them is {told[-1]}" if told else "PBS expects no start of any"
    return f"{many} there, and {last}"


def queues_command() -> list[str]:
    return ["qstat", "-Q", "-f"]


def parse_queues(out: str) -> dict[str, dict[str, str]]:
    """The queues that there are, with their limits (`resources_max.walltime`)."""
    return blocks(out, "Queue")
