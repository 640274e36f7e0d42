"""What YARN's refusals, waits and failures mean, in words, with the values that would have been valid.

Pure: answers in, words out. YARN clamps a request that is too large without a word. The job then runs with less, or
waits for ever, so requests are compared with the nodes *before* they are submitted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpc.launchers.scheduler import Diagnosis, Request

NODES_PATH = "/nodes?states=RUNNING"
QUEUES_PATH = "/scheduler"
#: What has to be "scheduler" or "placement-processor": with "disabled" two containers may share a machine.
HANDLER = "yarn.resourcemanager.placement-constraints.handler"

FLAGS = {"memory-mb": "--mem", "vcores": "--cpus-per-task", "yarn.io/gpu": "--gpus-per-node"}
CODES = {"memory-mb": "TOO-MUCH-MEMORY", "vcores": "TOO-MANY-CPUS", "yarn.io/gpu": "TOO-MANY-GPUS"}
UNITS = {"memory-mb": "MiB of memory", "vcores": "CPUs", "yarn.io/gpu": "GPUs"}


@dataclass(frozen=True)
class Queue:
    """A queue that takes applications."""

    name: str
    running: bool
    most_share: float  # of the whole cluster, 0 to 1


def labels(answer: Mapping[str, Any]) -> list[str]:
    """The labels that nodes have."""
    rows = (answer.get("nodes") or {}).get("node") or []
    return sorted({str(label) for node in rows for label in node.get("nodeLabels") or [] if label})


def unknown_label(request: Request, answer: Mapping[str, Any]) -> Diagnosis | None:
    """A label that no node has: YARN would refuse it in many words, or let the job wait for ever."""
    known, wanted = labels(answer), request.constraint
    if not answer or wanted is None or wanted in known:
        return None
    near = difflib.get_close_matches(wanted, known, 1, 0.4)
    what = f"no node has the label {wanted!r}"
    shown = f"there are: {', '.join(known)}" if known else "the nodes of this cluster have no labels"
    return Diagnosis("REJECTED", what, {"--constraint": near[0]} if near else {}, shown)


def parse_nodes(answer: Mapping[str, Any], label: str | None = None) -> list[dict[str, int]]:
    """What each node that runs has in all: free or used. label: of those that have it."""
    found = []
    for node in (answer.get("nodes") or {}).get("node") or []:
        if label is not None and label not in (node.get("nodeLabels") or []):
            continue
        row = {
            "memory-mb": int(node.get("usedMemoryMB") or 0) + int(node.get("availMemoryMB") or 0),
            "vcores": int(node.get("usedVirtualCores") or 0) + int(node.get("availableVirtualCores") or 0),
        }
        for part in ("usedResource", "availableResource"):
            infos = (((node.get(part) or {}).get("resourceInformations") or {}).get("resourceInformation")) or []
            for info in infos:
                if info.get("name") not in row or info.get("name") == "yarn.io/gpu":
                    row[str(info["name"])] = row.get(str(info["name"]), 0) + int(info.get("value") or 0)
        found.append(row)
    return found


def parse_free(answer: Mapping[str, Any]) -> list[dict[str, int]]:
    """What each node that runs has free."""
    found = []
    for node in (answer.get("nodes") or {}).get("node") or []:
        infos = ((node.get("availableResource") or {}).get("resourceInformations") or {}).get("resourceInformation")
        row = {str(info["name"]): int(info.get("value") or 0) for info in infos or [] if info.get("name")}
        row |= {"memory-mb": int(node.get("availMemoryMB") or 0), "vcores": int(node.get("availableVirtualCores") or 0)}
        found.append(row)
    return found


def free_nodes(asked: Mapping[str, int], free: Sequence[Mapping[str, int]]) -> int:
    """How many nodes have what is asked of each of them free."""
    return sum(all(node.get(name, 0) >= value for name, value in asked.items()) for node in free)


def queue_in_words(answer: Mapping[str, Any], wanted: str | None) -> str:
    """How full the queue is, by the ResourceManager's own figures; "" where it has none."""
    name = (wanted or "default").rpartition(".")[2]

    def walk(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if row.get("queueName") == name and not row.get("queues"):
            return row
        found = (walk(each) for each in (row.get("queues") or {}).get("queue") or [])
        return next((each for each in found if each is not None), None)

    row = walk((answer.get("scheduler") or {}).get("schedulerInfo") or {})
    if row is None or "absoluteUsedCapacity" not in row:
        return ""
    used, most = float(row["absoluteUsedCapacity"]), float(row.get("absoluteMaxCapacity") or 100.0)
    waiting = int(row.get("numPendingApplications") or 0)
    many = f"{waiting} application{'' if waiting == 1 else 's'} wait{'s' if waiting == 1 else ''}"
    return f"queue {name} uses {used:.0f}% of the cluster and may use {most:.0f}%; {many}"


def parse_queues(answer: Mapping[str, Any]) -> list[Queue]:
    """The queues that have none below them (CapacityScheduler; of another scheduler nothing is known)."""
    found: list[Queue] = []

    def walk(row: Mapping[str, Any]) -> None:
        below = (row.get("queues") or {}).get("queue") or []
        if not below and row.get("queueName") and row.get("queueName") != "root":
            share = float(row.get("absoluteMaxCapacity") or 100.0) / 100
            found.append(Queue(str(row["queueName"]), row.get("state", "RUNNING") == "RUNNING", share))
        for each in below:
            walk(each)

    walk((answer.get("scheduler") or {}).get("schedulerInfo") or {})
    return found


def compare(
    request: Request, asked: Mapping[str, int], nodes: Sequence[Mapping[str, int]], queues: Sequence[Queue],
    master_mb: int,
) -> Diagnosis | None:  # fmt: skip
    """The first thing in the request that this cluster can never give; None when nothing stands out."""
    refused = _queue(request, queues)
    if refused is None and nodes:
        refused = _one_node(asked, nodes) or _all_nodes(request.nodes[1], asked, nodes)
    return refused or _share(request, asked, nodes, queues, master_mb)


def _queue(request: Request, queues: Sequence[Queue]) -> Diagnosis | None:
    wanted = (request.partition or "default").rpartition(".")[2]
    names = [queue.name for queue in queues]
    shown = f"there are: {', '.join(names)}"
    if queues and wanted not in names:
        near = difflib.get_close_matches(wanted, names, 1, 0.4)
        what = f"no queue is called {wanted!r}"
        return Diagnosis("PARTITION", what, {"--partition": near[0] if near else names[0]}, shown)
    if any(queue.name == wanted and not queue.running for queue in queues):
        open_ones = [queue.name for queue in queues if queue.running]
        fix = {"--partition": open_ones[0]} if open_ones else {}
        return Diagnosis("PARTITION", f"queue {wanted} takes no jobs (it is stopped)", fix, shown)
    return None


def _one_node(asked: Mapping[str, int], nodes: Sequence[Mapping[str, int]]) -> Diagnosis | None:
    """YARN would clamp what no node has, and give less without a word."""
    for name, value in asked.items():
        most = max(node.get(name, 0) for node in nodes)
        if value > most:
            what = f"no node of this cluster has more than {most} {UNITS[name]}, you asked for {value} on each"
            return Diagnosis(CODES[name], what, {FLAGS[name]: _size(name, most)} if most else {})
    return None


def _size(name: str, value: int) -> str:
    return f"{value}M" if name == "memory-mb" else str(value)


def _all_nodes(count: int, asked: Mapping[str, int], nodes: Sequence[Mapping[str, int]]) -> Diagnosis | None:
    """One container on each node: so many nodes must have what is asked of each."""
    fit = sum(all(node.get(name, 0) >= value for name, value in asked.items()) for node in nodes)
    if count <= fit:
        return None
    having = "nodes" if fit == len(nodes) else "nodes with what you ask of each"
    return Diagnosis(
        "TOO-MANY-NODES", f"{count} nodes asked for, but this cluster has {fit} {having}",
        {"--nodes": str(fit)} if fit else {},
    )  # fmt: skip


def _share(
    request: Request, asked: Mapping[str, int], nodes: Sequence[Mapping[str, int]], queues: Sequence[Queue],
    master_mb: int,
) -> Diagnosis | None:  # fmt: skip
    """A queue has a part of the cluster at most, and the application's master takes a bit of it.

    Of memory alone: whether CPUs count at all is a setting of the scheduler's that it does not tell.
    """
    wanted = (request.partition or "default").rpartition(".")[2]
    queue = next((each for each in queues if each.name == wanted), None)
    if queue is None or not nodes:
        return None
    whole_mb = int(queue.most_share * sum(node["memory-mb"] for node in nodes))
    need_mb = asked["memory-mb"] * request.nodes[1] + master_mb
    if need_mb <= whole_mb:
        return None
    what = f"queue {queue.name} may use {whole_mb} MiB of memory of this cluster, and the job needs {need_mb}"
    return Diagnosis("TOO-MUCH-MEMORY", what, hint="fewer nodes, or less on each")


def no_ticket(said: str) -> Diagnosis:
    """What klist says of tickets, where none is good."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    has_run_out = bool(re.search(r"expired", said, re.IGNORECASE)) or "Valid starting" in said
    state = "your Kerberos ticket has run out" if has_run_out else "there is no Kerberos ticket"
    what = f"YARN wants to know who you are, and {state}: nothing was submitted"
    return Diagnosis("ACCOUNT", what, why=lines[-1] if lines else "", hint="kinit")


def explain_refusal(said: str, why: str) -> Diagnosis:
    """Why the client did not submit; `why` is what is quoted of its words."""
    if re.search(r"ConnectException|Connection refused|NoRouteToHost|UnknownHostException|Retrying connect", said):
        return Diagnosis("SCHEDULER-DOWN", "the ResourceManager does not answer; nothing was submitted", why=why)
    if re.search(r"GSSException|Kerberos|AccessControlException: (?:SIMPLE|Client cannot)", said):
        what = "YARN wants to know who you are, and there is no valid Kerberos ticket"
        return Diagnosis("ACCOUNT", what, why=why, hint="kinit")
    queue = re.search(r"Queue (\S+) not present|unknown queue: (\S+)", said)
    if queue:
        return Diagnosis("PARTITION", f"no queue is called {(queue.group(1) or queue.group(2))!r}", why=why)
    if "AccessControlException" in said or "does not have permission" in said:
        return Diagnosis("ACCOUNT", "you may not submit to this queue", why=why)
    return Diagnosis("REJECTED", "YARN refused the job", why=why)


def without_constraints(nodes: int) -> Diagnosis:
    """The refusal where YARN cannot keep containers apart."""
    what = f"this YARN cannot put {nodes} containers on {nodes} machines: its placement constraints are switched off"
    hint = f"--nodes=1, or ask the administrator for {HANDLER}=scheduler in yarn-site.xml"
    return Diagnosis("REJECTED", what, {"--nodes": "1"}, hint=hint)


def reason_in_words(state: str, diagnostics: str, waits: bool, running: int) -> str:
    """Why an application waits."""
    if waits:
        return f"waiting for nodes to become free ({max(0, running - 1)} containers so far)"
    if state == "RUNNING":
        return ""
    if "AM resource" in diagnostics or "AMResource" in diagnostics:
        return "the queue's limit for masters of applications is used up for now"
    if re.search(r"[Uu]ser's? (?:AM )?(?:resource )?limit", diagnostics):
        return "your limit in this queue is used up for now"
    if state == "ACCEPTED":
        return "waiting for the application's master to start"
    return "just submitted"


def first_failure(diagnostics: str) -> str:
    """Why an application failed: the first container's words, without Java's frames and YARN's own."""
    text = re.sub(r"\s+at [\w.$]+\([\w.: ]+\)", "", diagnostics)
    match = re.search(r"[Ee]xit code(?::| is) (\d+)", text)
    shell = re.search(r"Last 4096 bytes of stderr ?: ?(.*?)(?:\[20|\Z)", text)
    if match:
        said = f": {shell.group(1).strip()}" if shell and shell.group(1).strip() else ""
        return f"a container ended with exit code {match.group(1)}{said}"[:600]
    return text[:600]
