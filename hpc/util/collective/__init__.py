"""Collective operations under Ray's names and defaults: see `hpc.collective`, which has more of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpc import collective
from hpc.collective import (
    allgather,
    allreduce,
    barrier,
    broadcast,
    destroy_collective_group,
    get_collective_group_size,
    get_group_handle,
    get_rank,
    is_backend_available,
    is_group_initialized,
    recv,
    reduce,
    reducescatter,
    register_collective_backend,
    send,
)
from hpc.util.collective.types import Backend


def init_collective_group(
    world_size: int, rank: int, backend: str = Backend.NCCL, group_name: str = "default", gloo_timeout: int = 30000
) -> None:
    """`hpc.collective.init_collective_group`, with NCCL unless another backend is named."""
    collective.init_collective_group(world_size, rank, backend, group_name, gloo_timeout)


def create_collective_group(
    actors: Sequence[Any],
    world_size: int,
    ranks: Sequence[int],
    backend: str = Backend.NCCL,
    group_name: str = "default",
    gloo_timeout: int = 30000,
) -> None:
    """`hpc.collective.create_collective_group`, with NCCL unless another backend is named."""
    collective.create_collective_group(actors, world_size, ranks, backend, group_name, gloo_timeout)


def nccl_available() -> bool:
    """Whether NCCL can be used in this process."""
    return is_backend_available("NCCL")


def gloo_available() -> bool:
    """Whether gloo can be used in this process."""
    return is_backend_available("GLOO")


__all__ = [
    "allgather",
    "allreduce",
    "barrier",
    "broadcast",
    "create_collective_group",
    "destroy_collective_group",
    "get_collective_group_size",
    "get_group_handle",
    "get_rank",
    "gloo_available",
    "init_collective_group",
    "is_backend_available",
    "is_group_initialized",
    "nccl_available",
    "recv",
    "reduce",
    "reducescatter",
    "register_collective_backend",
    "send",
]
