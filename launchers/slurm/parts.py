"""Which nodes of an allocation are started together, and what each of them was granted. Pure.

Nodes are started by one srun where they are alike. Where they are not, there is one for each kind. A step can ask for
the same of all its nodes only, and each component of a heterogeneous job has its own.
Rejected: one srun with several components (`srun A : B`), which would do for both. Its components read from one
standard input, and each line reaches only one of them [seen on 22.05].
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpc.launchers.scheduler import Allocation, Share


@dataclass(frozen=True)
class Alike:
    """Nodes that one srun starts.

    others: nodes of the same job that it does not start. component: which one of a heterogeneous job, else None.
    gpus: what each of the nodes has. all_alike: whether every node of the job has as many.
    """

    nodes: tuple[str, ...]
    job_id: str = ""
    others: tuple[str, ...] = ()
    component: int | None = None
    gpus: int = 0
    all_alike: bool = True

    def options(self) -> list[str]:
        """The options that choose the nodes, and get the step what the job has there.

        --gres: without it a step of a job that asked by --gpus or --gpus-per-task gets one GPU per node. Of nodes that
        are not alike it may ask no more than the last one has. So there --gpus says how many the step gets in all. The
        others are excluded, because Slurm refuses what one of them could not give. [seen on 22.05]
        """
        found = [] if self.component is None else [f"--het-group={self.component}"]
        if self.others:
            found.append(f"--nodelist={','.join(self.nodes)}")
        if self.others and not self.all_alike:
            found.append(f"--exclude={','.join(self.others)}")
        if self.gpus:
            found.append(f"--gres=gpu:{self.gpus}" if self.all_alike else f"--gpus={self.gpus * len(self.nodes)}")
        return found


def parts_of(alloc: Allocation, count: int, granted: Mapping[str, Share], but: Collection[str] = ()) -> list[Alike]:
    """The first `count` nodes that are not in `but`, in parts; the first node of all is the first of the first part."""
    found: list[Alike] = []
    wanted = set([node for node in alloc.nodes if node not in but][:count])
    for component, nodes in enumerate(alloc.parts or [alloc.nodes]):
        gpus = {node: granted.get(node, Share()).gpus for node in nodes}
        kinds: dict[int, list[str]] = {}
        for node in nodes:
            if node in wanted:
                kinds.setdefault(gpus[node], []).append(node)
        for each, some in kinds.items():
            others = tuple(node for node in nodes if node not in some)
            part = Alike(tuple(some), alloc.job_id, others, None, each, len(set(gpus.values())) == 1)
            if alloc.parts:
                part = replace(part, job_id=alloc.part_ids[component], component=component)
            found.append(part)
    return found


def grants(hosts: Sequence[str], granted: Mapping[str, Share], *, counts_gpus: bool) -> list[dict[str, Any]]:
    """What each rank was granted, for the start message: one entry for neighbours that are alike.

    counts_gpus: the cluster knows of GPUs, so that none granted is none.
    """
    found: list[dict[str, Any]] = []
    for host in hosts:
        share = granted.get(host)
        entry: dict[str, Any] = {"mem_mb": share.mem_mb if share is not None else None}
        entry["gpus"] = share.gpus if share is not None and counts_gpus else None
        if found and all(found[-1][key] == value for key, value in entry.items()):
            found[-1]["nodes"] += 1
        else:
            found.append({"nodes": 1, **entry})
    return found


def shares_from_env(env: Mapping[str, str], alloc: Allocation) -> dict[str, Share]:
    """The memory of each node as the job's variables have it: for when the controller does not answer."""
    per_node, per_cpu = env.get("SLURM_MEM_PER_NODE", ""), env.get("SLURM_MEM_PER_CPU", "")
    if alloc.parts or not (per_node.isdigit() or per_cpu.isdigit()):
        return {}
    cpus = cpus_of_nodes(env.get("SLURM_JOB_CPUS_PER_NODE", ""))
    if per_node.isdigit():
        return {node: Share(mem_mb=int(per_node)) for node in alloc.nodes}
    return {node: Share(mem_mb=int(per_cpu) * n) for node, n in zip(alloc.nodes, cpus, strict=False)}


def cpus_of_nodes(text: str) -> list[int]:
    """`2(x3),4`: the CPUs of each node."""
    found: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        found += [int(count)] * int(times or 1)
    return found
