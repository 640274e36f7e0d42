"""What Torque says otherwise than OpenPBS, in pure make-command / parse-answer pairs.

Both come from one ancestor, and most of commands.py holds for both. Torque counts processors of nodes (`nodes=2:ppn=4`)
where OpenPBS has chunks. It takes a script file and no program, and starts tasks by pbsdsh. Jobs that have ended are
shown as completed for some minutes, and then forgotten. The facts are from its sources (to 7.0), its manual pages and
answers of servers in public places. The dialect as Debian's wrappers in front of Slurm speak it was seen.
Rejected: `qstat -x` (XML here): `qstat -f` says the same in the form that OpenPBS has.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpc.launchers.jobscript import folder_lines, setup_lines
from hpc.launchers.pbs.commands import MAILS, indices, walltime
from hpc.launchers.scheduler import JobInfo, Request
from hpc.launchers.units import memory_bytes

#: What PBS_VERSION in the environment of a job begins with.
JOBS_VERSION = "TORQUE"
GPU_FILE = "PBS_GPUFILE"
#: Names the server, in the place of the files.
SERVER_ENV = "PBS_DEFAULT"
#: Where Torque's commands look for the name of their server.
SERVER_FILES = ("/var/spool/torque/server_name", "/var/lib/torque/server_name", "/etc/torque/server_name")

#: Runs pbsdsh, which ends with 0 however its task did, and says so in words. Then says on the shared pipe how it ended.
WATCH = (
    'said=$("$@" 2>&1); code=$?; [ -z "$said" ] || printf "%s\\n" "$said"; '
    'case $said in *"exit status "*) code=${said##*exit status }; code=${code%%[!0-9]*};; '
    '*"spawn failed"*|*" on spawn"*) code=254;; esac; echo "task $0 $code"'
)


def is_torque(version: str) -> bool:
    """Whether `qsub --version` has answered as Torque does."""
    return re.search(r"^version:\s*\d", version, re.IGNORECASE | re.MULTILINE) is not None


@dataclass(frozen=True)
class Processors:
    """The processors of a job, by the text of its node file, which has one line for each: the host that it is on.

    gpus: the indices of the GPUs that the job has on each host, by the text of the file of GPUs.
    """

    hosts: tuple[str, ...]
    gpus: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, node_file: str, gpu_file: str = "") -> Processors:
        """`n1`, `n1`, `n2`; and `n1-gpu0`, `n2-gpu1`."""
        found: dict[str, tuple[str, ...]] = {}
        for word in gpu_file.split():
            host, dash, index = word.rpartition("-gpu")
            if dash and index.isdigit():
                found[host] = (*found.get(host, ()), index)
        return cls(tuple(node_file.split()), found)

    def first(self, host: str) -> int:
        """The number of a host's first processor, from 0 over the whole job: so pbsdsh names it."""
        return self.hosts.index(host)


def task_command(starter: str, processor: int, script: str, rank: int, extra: Sequence[str] = ()) -> list[str]:
    """Start the task of one rank by pbsdsh (`starter`) on the node of a processor, and end when it ends.

    Rejected: one `pbsdsh -u` for all nodes: releases differ in how a task learns which of them it is on. Rejected too:
    `-h HOST`, which older ones compare with the node's own name for itself.
    """
    return [starter, "-n", str(processor), *extra, "/bin/sh", script, str(rank)]


def grants(hosts: Sequence[str], job: JobInfo | None, processors: Processors) -> list[dict[str, Any]]:
    """What each rank was granted, for the start message. A job without GPUs has no file of them."""
    counted = Counter(processors.hosts)
    shares = job.granted if job is not None else {}
    found: list[dict[str, Any]] = []
    for host in hosts:
        share = shares.get(host)
        devices = list(processors.gpus.get(host, ()))
        gpus = len(devices) if processors.gpus else share.gpus or None if share is not None else None
        mem_mb = share.mem_mb if share is not None else None
        found.append({"nodes": 1, "cpus": counted[host], "mem_mb": mem_mb, "gpus": gpus, "devices": devices})
    return found


# ---------------------------------------------------------------- before there is a job


def free_nodes(request: Request, nodes: Sequence[Mapping[str, str]]) -> int:
    """How many nodes have what is asked of each free, by what `pbsnodes -a` says of them. GPUs in use are not told."""
    kind, _, gpus = (request.gpus_per_node or "").rpartition(":")
    wanted = {word for word in (kind, request.constraint) if word}
    mem_kb = memory_bytes(request.mem) >> 10 if request.mem else 0

    def has_free(node: Mapping[str, str]) -> bool:
        used = sum(indices(part.partition("/")[0]) for part in node.get("jobs", "").split(","))
        physical = re.search(r"physmem=(\d+)kb", node.get("status", ""))
        return (
            node.get("state") == "free"
            and int(node.get("np", 0)) - used >= (request.cpus_per_task or 1)
            and not (request.exclusive and used)
            and int(node.get("gpus", 0)) >= int(gpus or 0)
            and wanted <= set(re.split(r"[,\s]+", node.get("properties", "")))
            and (physical is None or int(physical[1]) >= mem_kb)
        )

    return sum(map(has_free, nodes))


def waiting_command(queue: str | None) -> list[str]:
    """The jobs that wait, in all queues or in one."""
    return ["qstat", "-i", *([queue] if queue else [])]


def waiting_in_words(out: str) -> str:
    """`3 jobs wait there`; "" where none does."""
    waiting = [row for row in map(str.split, out.splitlines()) if row and row[0][0].isdigit() and "Q" in row[-2:]]
    return {0: "", 1: "1 job waits there"}.get(len(waiting), f"{len(waiting)} jobs wait there")


# ---------------------------------------------------------------- submitting


def options(request: Request) -> list[str]:
    """qsub's options: what was asked for, then what every job of ours needs.

    One -l: of several, some releases see the last alone. mem: of the whole job, as Torque counts it. -r n: a second run
    could overwrite what the first wrote. -o: the script writes the output itself (`job_script`).
    """
    nodes = request.nodes[0]
    shape = [f"nodes={nodes}", f"ppn={request.cpus_per_task or 1}"]
    kind, _, count = (request.gpus_per_node or "").rpartition(":")
    shape += [f"gpus={count}"] if count else []
    shape += [word for word in (kind, request.constraint) if word]
    wanted = [":".join(shape)]
    if request.time is not None:
        wanted.append(f"walltime={walltime(request.time)}")
    if request.mem:
        wanted.append(f"mem={nodes * (memory_bytes(request.mem) >> 20)}mb")
    if request.exclusive:
        wanted.append("naccesspolicy=singlejob")
    found = ["-N", job_name(request.job_name or "hpc"), "-l", ",".join(wanted)]
    for flag, value in (("-q", request.partition), ("-A", request.account)):
        found += [flag, value] if value else []
    if request.dependency:
        found += ["-W", f"depend={request.dependency}"]
    if request.mail_type:
        found += ["-m", "".join(MAILS.get(word, word.lower()) for word in request.mail_type.upper().split(","))]
    return [*found, "-j", "oe", "-o", "/dev/null", "-r", "n"]


def job_name(name: str) -> str:
    """The name as Torque takes it: it begins with a letter, and has no white space."""
    name = re.sub(r"\s+", "_", name)
    return name if name[:1].isalpha() else f"hpc-{name}"


def job_script(request: Request, *, cwd: str, setup: Sequence[str], command: Sequence[str]) -> str:
    """The job script, as a login shell for what the site has in its profiles (modules).

    Torque keeps the output of a job on its first node until the job has ended: so the script writes it where it
    belongs. It ends in exec: bash runs its traps only after its foreground child.
    """
    lines = ["#!/bin/bash -l"]
    lines += [f"exec >>{shlex.quote(posixpath.join(cwd, request.output))} 2>&1"] if request.output else []
    lines += [*folder_lines(cwd), *setup_lines(setup), f"exec {shlex.join(command)}"]
    return "\n".join(lines) + "\n"


def qsub_command(qsub: str, script: str, request: Request) -> list[str]:
    return [qsub, *options(request), *request.submit_arg, script]
