"""The backends "gloo" and "nccl": process groups of torch, beside the program's own default group and untouched by it.

Rank 0 binds a port of its node's address, publishes it, and keeps the socket for torch's store. No other process can
take the port in between.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed

from hpc.collective.errors import CollectiveError, CollectiveTimeoutError
from hpc.collective.meeting import Meeting
from hpc.collective.ops import ReduceOp

#: Its names change from version to version.
dist: Any = torch.distributed
_OPS = {
    ReduceOp.SUM: dist.ReduceOp.SUM,
    ReduceOp.PRODUCT: dist.ReduceOp.PRODUCT,
    ReduceOp.MIN: dist.ReduceOp.MIN,
    ReduceOp.MAX: dist.ReduceOp.MAX,
    ReduceOp.AVERAGE: dist.ReduceOp.SUM,
}


def _store(meeting: Meeting, rank: int, size: int, address: str, timeout: timedelta) -> Any:
    """The store by which torch's ranks exchange their addresses."""
    if rank == 0:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.bind((address, 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        store = dist.TCPStore(
            address, port, size, True, timeout, wait_for_workers=False, master_listen_fd=listener.detach()
        )
        meeting.exchange(f"{address} {port}".encode())
        return store
    host, _, port_text = meeting.exchange(b"")[0].decode().partition(" ")
    return dist.TCPStore(host, int(port_text), size, False, timeout, wait_for_workers=False)


def _process_group(backend: str, store: Any, rank: int, size: int, address: str, timeout: timedelta) -> Any:
    prefixed = dist.PrefixStore("hpc", store)
    if backend == "NCCL":
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = timeout
        return dist.ProcessGroupNCCL(prefixed, rank, size, options)
    options = dist.ProcessGroupGloo._Options()
    options._devices = [dist.ProcessGroupGloo.create_device(hostname=address)]
    options._timeout = timeout
    return dist.ProcessGroupGloo(prefixed, rank, size, options)


def _tensor(value: Any, writes: bool) -> torch.Tensor:
    if not isinstance(value, np.ndarray):
        tensor: torch.Tensor = value.detach()
        return tensor
    if writes and not value.flags.writeable:
        raise ValueError(
            "the array is read-only, as what hpc.get returns: copy it first, since the result goes into it"
        )
    if not value.flags.writeable:
        value = value.copy()
    return torch.from_numpy(value)


class _Written:
    """A tensor that the operation writes into, contiguous; what was not is put back."""

    def __init__(self, value: Any) -> None:
        self.original = _tensor(value, True)
        self.tensor = self.original.contiguous()

    def put_back(self) -> None:
        if self.tensor is not self.original:
            self.original.copy_(self.tensor)


class TorchGroup:
    """One rank's part of a group of torch."""

    def __init__(self, meeting: Meeting, rank: int, size: int, backend: str, address: str, timeout_s: float) -> None:
        self.rank, self.world_size, self.backend = rank, size, backend
        # A message of gloo waits for its receiver. Those of nccl are put into the order of a stream.
        self.messages_apart = backend == "GLOO"
        timeout = timedelta(seconds=timeout_s)
        # Kept as long as the group: rank 0's is the server.
        self._store = _store(meeting, rank, size, address, timeout)
        self._group = _process_group(backend, self._store, rank, size, address, timeout)
        self._timeout_s = timeout_s
        # Rank 0's store answers until all have made their connections.
        self.barrier()

    def _wait(self, name: str, begin: Callable[[], Any]) -> None:
        began = time.monotonic()
        try:
            begin().wait()
        except RuntimeError as error:
            text = f"{name} by {self.backend.lower()} failed on rank {self.rank}: {error}"
            # torch tells a wait that was too long from other failures by its text alone.
            if time.monotonic() - began >= self._timeout_s:
                raise CollectiveTimeoutError(text) from error
            raise CollectiveError(text) from error

    def allreduce(self, tensor: Any, op: ReduceOp) -> None:
        into = _Written(tensor)
        options = dist.AllreduceOptions()
        options.reduceOp = _OPS[op]
        self._check_average(into.tensor, op)
        self._wait("allreduce", lambda: self._group.allreduce([into.tensor], options))
        if op is ReduceOp.AVERAGE:
            into.tensor.div_(self.world_size)
        into.put_back()

    def _check_average(self, tensor: torch.Tensor, op: ReduceOp) -> None:
        if op is ReduceOp.AVERAGE and not (tensor.is_floating_point() or tensor.is_complex()):
            raise ValueError(f"an average of {tensor.dtype} is no {tensor.dtype}: use SUM and divide")

    def reduce(self, tensor: Any, root: int, op: ReduceOp) -> None:
        into = _Written(tensor) if self.rank == root else None
        # torch may write into the tensors of other ranks too.
        work = into.tensor if into else _tensor(tensor, False).clone().contiguous()
        self._check_average(work, op)
        self._reduce_to("reduce", work, root, op)
        if into is None:
            return
        if op is ReduceOp.AVERAGE:
            into.tensor.div_(self.world_size)
        into.put_back()

    def _reduce_to(self, name: str, work: torch.Tensor, root: int, op: ReduceOp) -> None:
        options = dist.ReduceOptions()
        options.reduceOp, options.rootRank, options.rootTensor = _OPS[op], root, 0
        self._wait(name, lambda: self._group.reduce([work], options))

    def broadcast(self, tensor: Any, root: int) -> None:
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor = root, 0
        if self.rank == root:
            source = _tensor(tensor, False).contiguous()
            self._wait("broadcast", lambda: self._group.broadcast([source], options))
            return
        into = _Written(tensor)
        self._wait("broadcast", lambda: self._group.broadcast([into.tensor], options))
        into.put_back()

    def allgather(self, outputs: Sequence[Any], tensor: Any) -> None:
        into = [_Written(out) for out in outputs]
        source = _tensor(tensor, False).contiguous()
        self._wait("allgather", lambda: self._group.allgather([[i.tensor for i in into]], [source]))
        for item in into:
            item.put_back()

    def reducescatter(self, tensor: Any, inputs: Sequence[Any], op: ReduceOp) -> None:
        into = _Written(tensor)
        self._check_average(into.tensor, op)
        if self.backend == "NCCL":
            options = dist.ReduceScatterOptions()
            options.reduceOp = _OPS[op]
            parts = [_tensor(part, False).contiguous() for part in inputs]
            self._wait("reducescatter", lambda: self._group.reduce_scatter([into.tensor], [parts], options))
        else:
            # gloo has none: each rank's part is reduced to that rank.
            for rank, part in enumerate(inputs):
                work = _tensor(part, False).clone().contiguous()
                self._reduce_to("reducescatter", work, rank, op)
                if rank == self.rank:
                    into.tensor.copy_(work.view_as(into.tensor))
        if op is ReduceOp.AVERAGE:
            into.tensor.div_(self.world_size)
        into.put_back()

    def alltoall(self, outputs: Sequence[Any], inputs: Sequence[Any]) -> None:
        into = [_Written(out) for out in outputs]
        parts = [_tensor(part, False).contiguous() for part in inputs]
        if self.backend == "NCCL":
            self._wait(
                "alltoall", lambda: self._group.alltoall([i.tensor for i in into], parts, dist.AllToAllOptions())
            )
        else:
            packed = torch.cat([part.reshape(-1) for part in parts])
            received = torch.empty_like(packed)
            self._wait("alltoall", lambda: self._group.alltoall_base(received, packed, [], [], dist.AllToAllOptions()))
            for item, part in zip(into, torch.split(received, parts[0].numel())):
                item.tensor.copy_(part.view_as(item.tensor))
        for item in into:
            item.put_back()

    def gather(self, outputs: Sequence[Any] | None, tensor: Any, root: int) -> None:
        into = [_Written(out) for out in outputs or ()]
        options = dist.GatherOptions()
        options.rootRank = root
        source = _tensor(tensor, False).contiguous()
        lists = [[i.tensor for i in into]] if outputs is not None else []
        self._wait("gather", lambda: self._group.gather(lists, [source], options))
        for item in into:
            item.put_back()

    def scatter(self, tensor: Any, inputs: Sequence[Any] | None, root: int) -> None:
        into = _Written(tensor)
        options = dist.ScatterOptions()
        options.rootRank = root
        lists = [[_tensor(part, False).contiguous() for part in inputs]] if inputs is not None else []
        self._wait("scatter", lambda: self._group.scatter([into.tensor], lists, options))
        into.put_back()

    def send(self, tensor: Any, to: int) -> None:
        source = _tensor(tensor, False).contiguous()
        self._wait("send", lambda: self._group.send([source], to, 0))

    def recv(self, tensor: Any, source: int) -> None:
        into = _Written(tensor)
        self._wait("recv", lambda: self._group.recv([into.tensor], source, 0))
        into.put_back()

    def barrier(self) -> None:
        self._wait("barrier", lambda: self._group.barrier(dist.BarrierOptions()))

    def destroy(self) -> None:
        if self.backend == "NCCL":
            self._group.shutdown()
        self._group = self._store = None
