"""Ranks of a training run: the node and the environment of each, from plain data. No I/O.

Placement is from the view of ``hpc.nodes()`` and uses no placement group yet. It is a plan of one node for each worker,
which the scheduler takes as a wish (PACK, SPREAD) or as a condition (STRICT_*). Unlike a placement group it reserves
nothing. Of two runs that start together on a full cluster, each may get a part of its workers and wait for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Slot:
    """Where one worker is to go. ``hard``: there or nowhere."""

    node: str
    hard: bool


@dataclass(frozen=True)
class Worker:
    """A worker that has started, as it describes itself. ``index`` is its place in the plan."""

    index: int
    node: str
    pid: int
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


class NoRoom(Exception):
    """The nodes could not hold the workers even if they were idle."""


def plan(nodes: Sequence[Mapping[str, Any]], count: int, each: Mapping[str, float], strategy: str) -> list[Slot]:
    """A slot for each worker. ``nodes``: rows of hpc.nodes(). Raises NoRoom."""
    rooms = {str(n["NodeID"]): _room(n["Resources"], each, count) for n in usable(nodes)}
    rooms = {node: room for node, room in rooms.items() if room}
    if strategy == "STRICT_PACK":
        best = max(rooms, key=lambda node: rooms[node], default=None)
        if best is None or rooms[best] < count:
            most = rooms[best] if best is not None else 0
            raise NoRoom(f"STRICT_PACK puts all {count} workers on one node, and no node has room for more than {most}")
        return [Slot(best, True)] * count
    if strategy == "STRICT_SPREAD":
        if len(rooms) < count:
            raise NoRoom(f"STRICT_SPREAD needs {count} nodes that have {_show(each)}, and there are {len(rooms)}")
        return [Slot(node, True) for node in list(rooms)[:count]]
    total = sum(rooms.values())
    if total < count:
        raise NoRoom(
            f"{count} workers that each hold {_show(each)} do not fit: the {len(list(usable(nodes)))} nodes of the "
            f"session have room for {total}"
        )
    filled = _packed(rooms, count) if strategy == "PACK" else _dealt(rooms, count)
    return [Slot(node, False) for node in filled]


def usable(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The nodes that run workers, by number."""
    alive = [n for n in nodes if n["Alive"] and not n.get("IsGateway")]
    return sorted(alive, key=lambda n: int(n["NodeID"]))


def _room(resources: Mapping[str, float], each: Mapping[str, float], most: int) -> int:
    """How many workers an idle node holds, at most as many as are asked about."""
    counts = [int(resources.get(name, 0.0) / amount + 1e-6) for name, amount in each.items() if amount > 0]
    return min([most, *counts])


def _packed(rooms: Mapping[str, int], count: int) -> list[str]:
    best_first = sorted(rooms, key=lambda node: -rooms[node])
    return [node for node in best_first for _ in range(rooms[node])][:count]


def _dealt(rooms: Mapping[str, int], count: int) -> list[str]:
    rounds = range(max(rooms.values(), default=0))
    return [node for turn in rounds for node in rooms if rooms[node] > turn][:count]


def _show(each: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{name}: {amount:g}" for name, amount in sorted(each.items())) + "}"


def identify(
    workers: Sequence[Worker], nodes: Sequence[Mapping[str, Any]], each: Mapping[str, float]
) -> list[tuple[int, Identity]]:
    """The ranks in order, each with the index of its worker: node after node, on a node by GPU, then by process."""
    rows = {str(n["NodeID"]): n for n in nodes}
    by_node: dict[str, list[Worker]] = {}
    for worker in sorted(workers, key=lambda w: (int(w.node), [_natural(g) for g in w.gpus], w.pid)):
        by_node.setdefault(worker.node, []).append(worker)
    found: list[tuple[int, Identity]] = []
    for node_rank, (node, there) in enumerate(by_node.items()):
        visible = tuple(dict.fromkeys(gpu for worker in there for gpu in worker.gpus))
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
            )
            found.append((worker.index, identity))
    return found


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
