"""The backends by their names, and what each needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from hpc.collective.custom import BaseGroup, CustomGroup
from hpc.collective.group import Group, ShmTensors
from hpc.collective.meeting import SessionMeeting
from hpc.collective.mpi_group import MpiGroup, why_no_mpi
from hpc.collective.shm.group import ShmGroup
from hpc.util.node import get_node_ip_address

OURS = ("SHM", "GLOO", "NCCL", "MPI")
_custom: dict[str, type[BaseGroup]] = {}


def register_collective_backend(name: str, group_cls: type[BaseGroup]) -> None:
    """Register a backend of one's own, in each process that uses it.

    Raises TypeError if the class is no `BaseGroup`, ValueError if the name is taken."""
    if not (isinstance(group_cls, type) and issubclass(group_cls, BaseGroup)):
        raise TypeError(f"{group_cls} is not a subclass of BaseGroup")
    upper = name.upper()
    if upper in OURS or upper in _custom:
        raise ValueError(f"Backend {upper} already registered")
    _custom[upper] = group_cls


def why_unavailable(backend: str) -> str:
    """Why a backend cannot be used in this process; "" if it can."""
    upper = backend.upper()
    if upper == "SHM":
        return ""
    if upper == "MPI":
        return why_no_mpi()
    if upper in ("GLOO", "NCCL"):
        if importlib.util.find_spec("torch") is None:
            return f"{upper} comes with PyTorch, which is not installed: pip install hpc[train]"
        import torch.distributed as dist

        if upper == "GLOO":
            return "" if dist.is_available() and dist.is_gloo_available() else "this PyTorch was built without gloo"
        import torch

        if not dist.is_nccl_available():
            return "this PyTorch was built without NCCL"
        return "" if torch.cuda.is_available() else "no NVIDIA GPU is visible in this process"
    group_cls = _custom.get(upper)
    if group_cls is None:
        known = ", ".join([*OURS, *_custom]).lower()
        return f"backend {backend!r} is not known: there are {known}; register_collective_backend adds one"
    return "" if group_cls.check_backend_availability() else f"backend {upper} says that it is not available"


def is_known(backend: str) -> bool:
    """Whether there is a backend of this name, available or not."""
    return backend.upper() in OURS or backend.upper() in _custom


def make_group(name: str, rank: int, size: int, backend: str, gloo_timeout: int, timeout_s: float) -> Group:
    """Join a group with a backend. Waits at most ``gloo_timeout`` milliseconds for the other ranks.

    Raises RuntimeError for a backend that is not available here."""
    why = why_unavailable(backend)
    if why:
        raise RuntimeError(f"Backend {backend.upper()} is not available. {why[:1].upper() + why[1:]}.")
    upper = backend.upper()
    makers: dict[str, Callable[..., Group]] = {"SHM": _shm, "GLOO": _torch, "NCCL": _torch, "MPI": _mpi}
    if upper in _custom:
        return CustomGroup(_custom[upper](size, rank, name), upper)
    return makers[upper](name, rank, size, upper, gloo_timeout / 1000, timeout_s)


def _shm(name: str, rank: int, size: int, backend: str, come_s: float, timeout_s: float) -> Group:
    meeting = SessionMeeting(name, rank, size, backend, come_s)
    try:
        return ShmTensors(ShmGroup(meeting, rank, size, get_node_ip_address(), timeout_s), name)
    finally:
        meeting.close()


def _mpi(name: str, rank: int, size: int, backend: str, come_s: float, timeout_s: float) -> Group:
    meeting = SessionMeeting(name, rank, size, backend, come_s)
    try:
        return MpiGroup(meeting, rank, size)
    finally:
        meeting.close()


def _torch(name: str, rank: int, size: int, backend: str, come_s: float, timeout_s: float) -> Group:
    from hpc.collective.torch_group import TorchGroup

    meeting = SessionMeeting(name, rank, size, backend, come_s)
    try:
        return TorchGroup(meeting, rank, size, backend, get_node_ip_address(), timeout_s)
    finally:
        meeting.close()


def available(backend: Any) -> bool:
    """Whether a backend can be used in this process."""
    return isinstance(backend, str) and not why_unavailable(backend)
