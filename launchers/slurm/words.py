"""What Slurm's refusals and reasons mean, in words, with the values that would have been valid.

Pure: text and tables in, words out. Slurm's own answers name neither the user's value nor the limit ("Requested
time limit is invalid (missing or exceeds some limit)"), so the partitions' limits are laid beside the request.
Rejected: refusing before sbatch is asked (a QOS or a reservation may lift a partition's limit: Slurm decides, we
only explain).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hpc.launchers.scheduler import Diagnosis, Request
from hpc.launchers.units import memory_bytes, parse_clock


@dataclass(frozen=True)
class Partition:
    """One partition, over all kinds of its nodes."""

    name: str
    default: bool
    up: bool
    limit_s: float | None
    limit: str
    nodes: int
    most_nodes: int | None
    cpus: int
    mem_mb: int
    gpus: int

    def shown(self) -> str:
        gpus = f", {self.gpus} GPUs each" if self.gpus else ""
        state = "" if self.up else ", down"
        return f"{self.name} ({self.nodes} nodes, {self.limit}{gpus}{state})"


def partitions_command() -> list[str]:
    return ["sinfo", "-h", "-e", "-a", "-o", "%P|%a|%l|%D|%s|%c|%m|%G"]


def parse_partitions(out: str) -> list[Partition]:
    found: dict[str, Partition] = {}
    for line in out.splitlines():
        cells = line.strip().split("|")
        if len(cells) != 8:
            continue
        name, avail, limit, nodes, size, cpus, mem, gres = cells
        most = size.rpartition("-")[2]
        one = Partition(
            name=name.rstrip("*"),
            default=name.endswith("*"),
            up=avail == "up",
            limit_s=parse_clock(limit if limit.count(":") else f"{limit}:00:00"),
            limit=limit,
            nodes=_number(nodes),
            most_nodes=_number(most) if most.isdigit() else None,
            cpus=_number(cpus),
            mem_mb=_number(mem),
            gpus=sum(int(n) for n in re.findall(r"gpu(?::[^:,()]+)?:(\d+)", gres)),
        )
        old = found.get(one.name)
        found[one.name] = one if old is None else _joined(old, one)
    return list(found.values())


def _number(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match.group()) if match else 0


def _joined(a: Partition, b: Partition) -> Partition:
    return Partition(
        a.name, a.default, a.up, a.limit_s, a.limit, a.nodes + b.nodes, a.most_nodes,
        max(a.cpus, b.cpus), max(a.mem_mb, b.mem_mb), max(a.gpus, b.gpus),
    )  # fmt: skip


def compare(request: Request, partitions: Sequence[Partition]) -> Diagnosis | None:
    """The first thing in the request that its partition cannot give, None when nothing stands out."""
    if not partitions:
        return None
    names = [p.name for p in partitions]
    all_shown = ", ".join(p.shown() for p in partitions)
    if request.partition is None:
        chosen = [p for p in partitions if p.default]
    else:
        listed = request.partition.split(",")
        for name in listed:
            if name not in names:
                import difflib

                open_ones = [p for p in partitions if p.up] or partitions
                default = next((p for p in open_ones if p.default), open_ones[0])
                near = difflib.get_close_matches(name, [p.name for p in open_ones], 1, 0.4)
                fix = {"--partition": near[0] if near else default.name}
                return Diagnosis("PARTITION", f"no partition is called {name!r}", fix, f"there are: {all_shown}")
        chosen = [p for p in partitions if p.name in listed]
    if not chosen:
        return None
    return _compare_one(request, max(chosen, key=lambda p: p.nodes), partitions)


def _compare_one(request: Request, one: Partition, partitions: Sequence[Partition]) -> Diagnosis | None:
    least, time_s = request.nodes[0], request.time
    most = min(one.nodes, one.most_nodes if one.most_nodes is not None else one.nodes)
    if not one.up:
        open_ones = [p.name for p in partitions if p.up]
        fix = {"--partition": open_ones[0]} if open_ones else {}
        return Diagnosis("PARTITION", f"partition {one.name} takes no jobs (it is down)", fix)
    if least > most:
        limited = f"allows {most} per job" if most < one.nodes else f"has {most}"
        what = f"{least} nodes asked for, but partition {one.name} {limited}"
        bigger = [p.shown() for p in partitions if p.up and min(p.nodes, p.most_nodes or p.nodes) >= least]
        return Diagnosis(
            "TOO-MANY-NODES", what, {"--nodes": str(most)}, f"enough in: {', '.join(bigger)}" if bigger else ""
        )
    if time_s is not None and one.limit_s is not None and time_s > one.limit_s:
        longer = [p.shown() for p in partitions if p.up and (p.limit_s is None or p.limit_s >= time_s)]
        what = f"partition {one.name} allows {one.limit}"
        return Diagnosis("TIME-LIMIT", what, {"--time": one.limit}, f"longer: {', '.join(longer)}" if longer else "")
    for code, flag, unit, asked, there in (
        ("TOO-MANY-GPUS", "--gpus-per-node", "GPUs", _gpus_of_each(request), one.gpus),
        ("TOO-MANY-CPUS", "--cpus-per-task", "CPUs", request.cpus_per_task or 0, one.cpus),
        ("TOO-MUCH-MEMORY", "--mem", "MiB of memory", _mem_mb(request), one.mem_mb),
    ):
        if asked > there:
            size = f"{there}M" if flag == "--mem" else str(there)
            return Diagnosis(
                code, f"nodes of partition {one.name} have {there} {unit}, you asked for {asked}",
                {flag: size} if there else {},
            )  # fmt: skip
    return None


def _gpus_of_each(request: Request) -> int:
    count = (request.gpus_per_node or "").rpartition(":")[2]
    return int(count) if count.isdigit() else 0


def gpus_of(request: Request) -> int:
    """The GPUs that the whole job asks for."""
    whole = (request.gpus or "").rpartition(":")[2]
    return int(whole) if whole.isdigit() else _gpus_of_each(request) * request.nodes[1]


def gpus_of_nodes(request: Request, partitions: Sequence[Partition]) -> int:
    """The GPUs of that many whole nodes of the partition."""
    each = max((p.gpus for p in partitions if p.name == request.partition or (p.default and not request.partition)),
               default=0)  # fmt: skip
    return each * request.nodes[1]


def _mem_mb(request: Request) -> int:
    return memory_bytes(request.mem) // 2**20 if request.mem else 0


_DOWN = ("Unable to contact slurm controller", "Socket timed out", "Connection refused", "Zero Bytes were transmitted",
         "Protocol authentication error", "munge", "Munge", "Could not establish a configuration source",
         "connect failure", "Unable to establish configuration source")  # fmt: skip


def explain_refusal(err: str, request: Request, partitions: Sequence[Partition], *, why: str = "") -> Diagnosis:
    """Why sbatch said no; `why` is what is quoted of its words."""
    return replace(_explain(err, request, partitions), why=why)


def _explain(err: str, request: Request, partitions: Sequence[Partition]) -> Diagnosis:
    if any(sign in err for sign in _DOWN):
        return Diagnosis("SCHEDULER-DOWN", "Slurm's controller does not answer; nothing was submitted")
    if "violates accounting/QOS policy" in err:
        limit = re.search(r"\b(?:Assoc|QOS)\w+", err.partition("Batch job submission failed")[0])
        what = reason_in_words(limit[0]).partition(f": {_NEVER}")[0] if limit else "a limit of the account or the QOS"
        hint = "fewer jobs at once, or smaller ones; `sacctmgr show assoc` and `sacctmgr show qos` have the limits"
        return Diagnosis("LIMIT", what, hint=hint)
    if "time limit" in err.lower() and request.time is None:
        chosen = next(
            (p for p in partitions if p.name == request.partition or (p.default and not request.partition)), None
        )
        known = f"partition {chosen.name} allows up to {chosen.limit}" if chosen else ""
        return Diagnosis("NO-TIME", "this site wants a time limit, and none was given", {"--time": "30m"}, known)
    seen = compare(request, partitions)
    if seen is not None:
        return seen
    if "account" in err.lower():
        what = f"the account {request.account!r} cannot be charged" if request.account else "an account is needed"
        return Diagnosis("ACCOUNT", what, {} if request.account else {"--account": "NAME"})
    if "qos" in err.lower():
        return Diagnosis("ACCOUNT", f"the QOS {request.qos!r} cannot be used")
    return Diagnosis("REJECTED", "Slurm refused the job")


#: What can never run, though it is in the queue.
_NEVER = "will not start as it is"
_REASONS = {
    "Priority": "jobs of higher priority are ahead",
    "Resources": "waiting for nodes to become free",
    "None": "just submitted",
    "": "just submitted",
    "Dependency": "waiting for another job (--dependency)",
    "DependencyNeverSatisfied": f"the job that it waits for did not end as it should: {_NEVER}",
    "BeginTime": "its earliest start has not come yet",
    "DeadLine": f"its deadline cannot be met any more: {_NEVER}",
    "JobHeldUser": "held by its user: will not start until it is released (scontrol release)",
    "JobHeldAdmin": "held by an administrator: will not start until it is released",
    "JobHoldMaxRequeue": "held: it was put back into the queue too often (scontrol release frees it)",
    "JobArrayTaskLimit": "waiting for other tasks of its array",
    "PartitionDown": "the partition is down: will not start until it is up",
    "PartitionInactive": "the partition is inactive: will not start until it is up",
    "PartitionConfig": f"the partition does not have the nodes that it asks for: {_NEVER}",
    "PartitionNodeLimit": f"asks for more nodes than the partition allows: {_NEVER}",
    "PartitionTimeLimit": f"asks for more time than the partition allows: {_NEVER}",
    "AccountingPolicy": f"asks for more than its account or QOS allows: {_NEVER}",
    "BadConstraints": f"no nodes can ever satisfy the request: {_NEVER}",
    "NodeDown": "a node that it needs is down",
    "Nodes required for job are DOWN": "nodes that it needs are down, drained or reserved for others",
    "ReqNodeNotAvail": "nodes that it needs are not available (down, drained or reserved)",
    "Reservation": "waiting for its reservation to begin",
    "ReservationDeleted": f"its reservation was deleted: {_NEVER}",
    "InvalidAccount": f"the account is not valid: {_NEVER}",
    "InvalidQOS": f"the QOS is not valid: {_NEVER}",
    "AccountNotAllowed": f"this account may not use the partition: {_NEVER}",
    "QOSNotAllowed": f"this QOS may not use the partition: {_NEVER}",
    "QOSUsageThreshold": "the QOS has used more than its share for now",
    "Licenses": "waiting for a licence",
    "BurstBufferResources": "waiting for room in the burst buffer",
    "BurstBufferStageIn": "its burst buffer is being filled",
    "Cleaning": "an earlier run of the job is being cleaned up",
    "JobLaunchFailure": "the job could not be launched",
    "launch failed requeued held": "a node failed to launch the job; it is held (scontrol release frees it)",
    "job requeued in held state": "it was put back into the queue and is held (scontrol release frees it)",
    "Prolog": "nodes are being prepared",
    "SchedDefer": "the scheduler looks at it a little later",
    "FrontEndDown": "no front end is up",
    "TimeLimit": "its time limit was reached",
    "NonZeroExitCode": "it ended with a non-zero exit code",
    "RaisedSignal": "it was ended by a signal",
    "NodeFailure": "a node failed",
    "SystemFailure": "the machine failed",
    "OutOfMemory": "it ran out of memory",
}


def notices(env: Mapping[str, str]) -> list[str]:
    """What a user may have meant otherwise: a step of several tasks runs this program several times."""
    copies = env.get("SLURM_STEP_NUM_TASKS", "")
    if not copies.isdigit() or int(copies) < 2 or env.get("SLURM_PROCID") != "0":
        return []
    return [
        f"this step of Slurm's runs the program {copies} times (srun -n{copies}): each copy has a session of its own, "
        "on the same nodes and CPUs; with srun -N1 -n1, or without srun, there is one"
    ]


def reason_in_words(reason: str) -> str:
    """Slurm's reason for a pending job, for people; unknown ones as they are. scontrol writes `_` for a blank."""
    plain = reason.strip("() ").split(",")[0].split(":")[0].strip()
    known = _REASONS.get(plain) or _REASONS.get(plain.replace("_", " "))
    if known is not None:
        return known
    limit = re.match(r"(QOS|Assoc|Association)(Grp|Max|Min)?(\w*?)(Limit|NotSatisfied)?$", plain)
    if limit and (limit.group(2) or limit.group(4)):
        whose = "the QOS" if limit.group(1) == "QOS" else "the account"
        if limit.group(2) == "Min":
            return f"asks for less than {whose} wants ({plain}): {_NEVER}"
        if "PerJob" in plain or plain.endswith(("MaxWallDurationLimit", "PerNodeLimit")):
            return f"asks for more than {whose} allows a job ({plain}): {_NEVER}"
        return f"{whose}'s limit is used up for now ({plain})"
    return plain
