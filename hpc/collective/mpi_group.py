"""The backend "mpi": the MPI library of a process that is a rank of an MPI world already, as those of `hpc.mpi.gang`.

The group is a communicator of its own among the ranks that join it. A rank that dies ends its world, as MPI has it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hpc.collective.errors import CollectiveError
from hpc.collective.group import put_back, same_sizes
from hpc.collective.meeting import Meeting
from hpc.collective.ops import ReduceOp, reduction
from hpc.collective.shm.ranks import as_bytes
from hpc.collective.tensors import Flat, flatten

_NAMES = {
    ReduceOp.SUM: "SUM",
    ReduceOp.PRODUCT: "PROD",
    ReduceOp.MIN: "MIN",
    ReduceOp.MAX: "MAX",
    ReduceOp.AVERAGE: "SUM",
}
#: Types of numbers in which MPI does no arithmetic.
_NO_ARITHMETIC = ("float16", "bfloat16")


def why_no_mpi() -> str:
    """Why this process cannot use MPI; "" if it can. Does not initialize MPI."""
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed: pip install 'hpc[mpi]'"
    mpi: Any = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return "this process is no rank of an MPI world: call it in a function of hpc.mpi.gang(...)"
    return ""


class MpiGroup:
    """One rank's part of a group in MPI."""

    backend = "MPI"

    def __init__(self, meeting: Meeting, rank: int, size: int) -> None:
        mpi: Any = sys.modules["mpi4py.MPI"]
        self._mpi = mpi
        self.rank, self.world_size = rank, size
        self.messages_apart = mpi.Query_thread() == mpi.THREAD_MULTIPLE
        world = mpi.COMM_WORLD
        said = meeting.exchange(f"{world.Get_rank()} {world.Get_size()}".encode())
        ranks = [int(text.split()[0]) for text in said]
        if len(set(ranks)) < size or len({text.split()[1] for text in said}) > 1:
            raise CollectiveError(f"the {size} processes are not ranks of one MPI world: {[s.decode() for s in said]}")
        members = world.Get_group().Incl(ranks)
        self._comm = world.Create_group(members, min(ranks))
        members.Free()

    def _do(self, name: str, call: Callable[..., Any], *args: Any) -> None:
        try:
            call(*args)
        except self._mpi.Exception as error:
            raise CollectiveError(f"{name} by mpi failed on rank {self.rank}: {error}") from error

    def _op(self, flat: Flat, op: ReduceOp) -> Any:
        reduction(flat.dtype, op)  # raises for what the type does not have
        if flat.dtype in _NO_ARITHMETIC:
            raise ValueError(f"MPI has no arithmetic for {flat.dtype}: use float32, or the backend shm")
        return getattr(self._mpi, _NAMES[op])

    def _finish(self, flat: Flat, op: ReduceOp) -> None:
        reduction(flat.dtype, op).finish(flat.array, self.world_size)
        put_back([flat])

    def allreduce(self, tensor: Any, op: ReduceOp) -> None:
        flat = flatten(tensor, True)
        self._do("allreduce", self._comm.Allreduce, self._mpi.IN_PLACE, flat.array, self._op(flat, op))
        self._finish(flat, op)

    def reduce(self, tensor: Any, root: int, op: ReduceOp) -> None:
        flat = flatten(tensor, self.rank == root)
        how = self._op(flat, op)
        if self.rank == root:
            self._do("reduce", self._comm.Reduce, self._mpi.IN_PLACE, flat.array, how, root)
            self._finish(flat, op)
        else:
            self._do("reduce", self._comm.Reduce, flat.array, None, how, root)

    def broadcast(self, tensor: Any, root: int) -> None:
        flat = flatten(tensor, self.rank != root)
        self._do("broadcast", self._comm.Bcast, as_bytes(flat.array), root)
        put_back([flat])

    def allgather(self, outputs: Sequence[Any], tensor: Any) -> None:
        flat, into = flatten(tensor, False), [flatten(out, True) for out in outputs]
        same_sizes(into, flat)
        all_data = self._room(flat)
        self._do("allgather", self._comm.Allgather, as_bytes(flat.array), all_data)
        self._spread(all_data, into)

    def reducescatter(self, tensor: Any, inputs: Sequence[Any], op: ReduceOp) -> None:
        flat, parts = flatten(tensor, True), [flatten(part, False) for part in inputs]
        same_sizes(parts, flat)
        joined = np.concatenate([part.array for part in parts])
        self._do("reducescatter", self._comm.Reduce_scatter_block, joined, flat.array, self._op(flat, op))
        self._finish(flat, op)

    def alltoall(self, outputs: Sequence[Any], inputs: Sequence[Any]) -> None:
        into, parts = [flatten(out, True) for out in outputs], [flatten(part, False) for part in inputs]
        same_sizes([*into, *parts], parts[0])
        joined = np.concatenate([as_bytes(part.array) for part in parts])
        all_data = np.empty_like(joined)
        self._do("alltoall", self._comm.Alltoall, joined, all_data)
        self._spread(all_data, into)

    def gather(self, outputs: Sequence[Any] | None, tensor: Any, root: int) -> None:
        flat, into = flatten(tensor, False), [flatten(out, True) for out in outputs or ()]
        same_sizes(into, flat)
        all_data = None if outputs is None else self._room(flat)
        self._do("gather", self._comm.Gather, as_bytes(flat.array), all_data, root)
        if all_data is not None:
            self._spread(all_data, into)

    def scatter(self, tensor: Any, inputs: Sequence[Any] | None, root: int) -> None:
        flat, parts = flatten(tensor, True), [flatten(part, False) for part in inputs or ()]
        same_sizes(parts, flat)
        joined = np.concatenate([as_bytes(part.array) for part in parts]) if parts else None
        self._do("scatter", self._comm.Scatter, joined, as_bytes(flat.array), root)
        put_back([flat])

    def send(self, tensor: Any, to: int) -> None:
        self._do("send", self._comm.Send, as_bytes(flatten(tensor, False).array), to)

    def recv(self, tensor: Any, source: int) -> None:
        flat = flatten(tensor, True)
        status = self._mpi.Status()
        self._do("recv", self._comm.Recv, as_bytes(flat.array), source, self._mpi.ANY_TAG, status)
        came = status.Get_count(self._mpi.BYTE)
        if came != flat.array.nbytes:
            raise CollectiveError(f"rank {source} has sent {came} bytes, and {flat.array.nbytes} are wanted here")
        put_back([flat])

    def barrier(self) -> None:
        self._do("barrier", self._comm.Barrier)

    def destroy(self) -> None:
        """Leave the group. All ranks do, before their world ends."""
        if not self._mpi.Is_finalized():
            self._comm.Free()

    def _room(self, flat: Flat) -> np.ndarray:
        return np.empty(flat.array.nbytes * self.world_size, np.uint8)

    def _spread(self, all_data: np.ndarray, into: Sequence[Flat]) -> None:
        for part, flat in zip(np.split(all_data, self.world_size), into):
            as_bytes(flat.array)[...] = part
        put_back(into)
