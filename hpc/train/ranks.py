"""Ranks of a training run: the number and the environment of each, from plain data. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Worker:
    """A worker that has started, as it describes itself. ``index`` is that of its bundle."""

    index: int
    node: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Identity:
    """One rank: torchrun's numbers, and the node that it is on."""

    world_rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    node_rank: int
    num_nodes: int
    node: str
    address: str
    visible_gpus: tuple[str, ...] = ()
    devices: tuple[int, ...] = ()
    threads: int = 1
    host: str = ""


def identify(
    workers: Sequence[Worker], nodes: Sequence[Mapping[str, Any]], each: Mapping[str, float], order: Sequence[str] = ()
) -> list[tuple[int, Identity]]:
    """The ranks in order, each with the index of its worker. ``nodes``: rows of hpc.nodes().

    Ranks go node after node: first in this order, then in that of the indices. On a node they go by GPU, then by index.
    """
    rows = {str(n["NodeID"]): n for n in nodes}
    by_index = sorted(workers, key=lambda worker: worker.index)
    by_node: dict[str, list[Worker]] = {node: [] for node in (*order, *(worker.node for worker in by_index))}
    for worker in sorted(by_index, key=lambda worker: [_natural(gpu) for gpu in worker.gpus]):
        by_node[worker.node].append(worker)
    by_node = {node: there for node, there in by_node.items() if there}
    found: list[tuple[int, Identity]] = []
    for node_rank, (node, there) in enumerate(by_node.items()):
        visible = by_local_rank([worker.gpus for worker in there])
        threads = int(each.get("CPU", 0)) or int(rows[node]["Resources"].get("CPU", 1)) // len(there)
        for local_rank, worker in enumerate(there):
            identity = Identity(
                world_rank=len(found),
                world_size=len(workers),
                local_rank=local_rank,
                local_world_size=len(there),
                node_rank=node_rank,
                num_nodes=len(by_node),
                node=node,
                address=str(rows[node]["NodeManagerAddress"]),
                visible_gpus=visible,
                devices=tuple(visible.index(gpu) for gpu in worker.gpus),
                threads=max(1, threads),
                host=str(rows[node].get("NodeManagerHostname") or ""),
            )
            found.append((worker.index, identity))
    return found


def by_local_rank(held: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The GPUs of a node's ranks so that number LOCAL_RANK is that rank's own: the first of each, then the others.

    Where ranks share a GPU there are fewer than ranks, and no order does that.
    """
    firsts = [gpus[0] for gpus in held if gpus]
    return tuple(dict.fromkeys([*firsts, *(gpu for gpus in held for gpu in gpus)]))


def _natural(gpu: str) -> tuple[int, str]:
    return (int(gpu), "") if gpu.isdigit() else (1 << 30, gpu)


def torchrun_environment(
    rank: Identity, run_id: str, restarts: int, max_restarts: int, error_file: str
) -> dict[str, str]:
    """What torchrun would set for this rank, but for the address of the master, which is known later."""
    return {
        "RANK": str(rank.world_rank),
        "LOCAL_RANK": str(rank.local_rank),
        "WORLD_SIZE": str(rank.world_size),
        "LOCAL_WORLD_SIZE": str(rank.local_world_size),
        "NODE_RANK": str(rank.node_rank),
        "GROUP_RANK": str(rank.node_rank),
        "GROUP_WORLD_SIZE": str(rank.num_nodes),
        "ROLE_NAME": "default",
        "ROLE_RANK": str(rank.world_rank),
        "ROLE_WORLD_SIZE": str(rank.world_size),
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCHELASTIC_RESTART_COUNT": str(restarts),
        "TORCHELASTIC_MAX_RESTARTS": str(max_restarts),
        "TORCHELASTIC_ERROR_FILE": error_file,
    }


def slice_environment(rank: Identity, each: int) -> dict[str, str]:
    """Which slice of TPUs, of several with ``each`` so many workers, this rank is on, for libtpu. {} for one slice."""
    if not 0 < each < rank.world_size:
        return {}
    return {
        "MEGASCALE_NUM_SLICES": str(rank.world_size // each),
        "MEGASCALE_SLICE_ID": str(rank.world_rank // each),
    }
