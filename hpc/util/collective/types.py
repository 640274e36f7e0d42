"""Backends, operations and options of collectives, where Ray has them."""

from __future__ import annotations

from hpc.collective.custom import (
    AllGatherOptions,
    AllReduceOptions,
    BarrierOptions,
    BroadcastOptions,
    RecvOptions,
    ReduceOptions,
    ReduceScatterOptions,
    SendOptions,
)
from hpc.collective.ops import ReduceOp


class Backend:
    """The names of backends. ``Backend("gloo")`` is the name of that backend, in capitals."""

    NCCL = "NCCL"
    GLOO = "GLOO"
    SHM = "SHM"
    UNRECOGNIZED = "unrecognized"

    def __new__(cls, name: str) -> str:  # type: ignore[misc]
        """Raises ValueError for a name that is none."""
        upper = name.upper()
        if upper == "TORCH_GLOO":
            return cls.GLOO
        if upper not in (cls.NCCL, cls.GLOO, cls.SHM):
            raise ValueError(f"Unrecognized backend: '{name}'. Only NCCL, GLOO and SHM are supported")
        return upper


__all__ = [
    "AllGatherOptions",
    "AllReduceOptions",
    "Backend",
    "BarrierOptions",
    "BroadcastOptions",
    "RecvOptions",
    "ReduceOp",
    "ReduceOptions",
    "ReduceScatterOptions",
    "SendOptions",
]
