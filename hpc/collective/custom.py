"""Backends that users bring, under Ray's names: a class whose methods take lists of tensors and options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hpc.collective.ops import ReduceOp

unset_timeout_ms = timedelta(milliseconds=-1)


@dataclass
class AllReduceOptions:
    reduceOp: ReduceOp = ReduceOp.SUM
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class BarrierOptions:
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class ReduceOptions:
    reduceOp: ReduceOp = ReduceOp.SUM
    root_rank: int = 0
    root_tensor: int = 0
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class AllGatherOptions:
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class BroadcastOptions:
    root_rank: int = 0
    root_tensor: int = 0
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class ReduceScatterOptions:
    reduceOp: ReduceOp = ReduceOp.SUM
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class SendOptions:
    dst_rank: int = 0
    dst_gpu_index: int = 0
    n_elements: int = 0
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class RecvOptions:
    src_rank: int = 0
    src_gpu_index: int = 0
    n_elements: int = 0
    unset_timeout_ms: timedelta = unset_timeout_ms


class BaseGroup(ABC):
    """What a backend of one's own derives from. The methods that it has not raise NotImplementedError."""

    def __init__(self, world_size: int, rank: int, group_name: str) -> None:
        self._world_size, self._rank, self._group_name = world_size, rank, group_name

    @property
    def rank(self) -> int:
        """The rank of this process in the group."""
        return self._rank

    @property
    def world_size(self) -> int:
        """The number of ranks."""
        return self._world_size

    @property
    def group_name(self) -> str:
        """The name of the group."""
        return self._group_name

    def destroy_group(self) -> None:  # noqa: B027 (not every backend has something)
        """Give back what the group has."""

    @classmethod
    def backend(cls) -> str:
        """The name of the backend."""
        raise NotImplementedError

    @classmethod
    @abstractmethod
    def check_backend_availability(cls) -> bool:
        """Whether the backend can be used in this process."""

    def allreduce(self, tensor: list[Any], allreduce_options: Any = None) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no allreduce")

    def barrier(self, barrier_options: Any = None) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no barrier")

    def reduce(self, tensor: list[Any], reduce_options: Any = None) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no reduce")

    def allgather(self, tensor_list: list[Any], tensor: list[Any], allgather_options: Any = None) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no allgather")

    def broadcast(self, tensor: list[Any], broadcast_options: Any = None) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no broadcast")

    def reducescatter(self, tensor: list[Any], tensor_list: list[Any], reducescatter_options: Any = None) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no reducescatter")

    def send(self, tensor: list[Any], send_options: Any = None) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no send")

    def recv(self, tensor: list[Any], recv_options: Any = None) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no recv")


class CustomGroup:
    """Such a backend behind the face of all (`group.Group`)."""

    messages_apart = False

    def __init__(self, custom: BaseGroup, backend: str) -> None:
        self.custom, self.backend = custom, backend
        self.rank, self.world_size = custom.rank, custom.world_size

    def allreduce(self, tensor: Any, op: ReduceOp) -> None:
        self.custom.allreduce([tensor], AllReduceOptions(op))

    def reduce(self, tensor: Any, root: int, op: ReduceOp) -> None:
        self.custom.reduce([tensor], ReduceOptions(op, root))

    def broadcast(self, tensor: Any, root: int) -> None:
        self.custom.broadcast([tensor], BroadcastOptions(root))

    def allgather(self, outputs: Sequence[Any], tensor: Any) -> None:
        self.custom.allgather([outputs], [tensor], AllGatherOptions())

    def reducescatter(self, tensor: Any, inputs: Sequence[Any], op: ReduceOp) -> None:
        self.custom.reducescatter([tensor], [inputs], ReduceScatterOptions(op))

    def alltoall(self, outputs: Sequence[Any], inputs: Sequence[Any]) -> None:
        raise self._missing("alltoall")

    def gather(self, outputs: Sequence[Any] | None, tensor: Any, root: int) -> None:
        raise self._missing("gather")

    def scatter(self, tensor: Any, inputs: Sequence[Any] | None, root: int) -> None:
        raise self._missing("scatter")

    def send(self, tensor: Any, to: int) -> None:
        self.custom.send([tensor], SendOptions(to))

    def recv(self, tensor: Any, source: int) -> None:
        self.custom.recv([tensor], RecvOptions(source))

    def barrier(self) -> None:
        self.custom.barrier(BarrierOptions())

    def destroy(self) -> None:
        self.custom.destroy_group()

    def _missing(self, name: str) -> NotImplementedError:
        return NotImplementedError(f"backends with Ray's face, such as {self.backend}, have no {name}")
