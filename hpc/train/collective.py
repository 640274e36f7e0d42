"""Calls in which all ranks of a training run meet, by way of the driver: for small things, now and then.

For tensors there are torch's process group and `hpc.collective`.
"""

from __future__ import annotations

from typing import TypeVar

from hpc.train.loop import current_loop

T = TypeVar("T")


def barrier() -> None:
    """Wait until every rank is here. All ranks must call it equally often, and in the same order as `report`."""
    current_loop("collective.barrier").exchange("barrier", None)


def broadcast_from_rank_zero(data: T) -> T:
    """What rank 0 gives, on every rank, once every rank is here. It is pickled, and should be small (a few kB)."""
    value: T = current_loop("collective.broadcast_from_rank_zero").exchange("broadcast_from_rank_zero", data)
    return value


__all__ = ["barrier", "broadcast_from_rank_zero"]
