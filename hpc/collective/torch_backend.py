"""The backend "shm" for torch.distributed: an unmodified script names it and is faster than with gloo.

After ``import hpc.collective.torch_backend`` there is ``torch.distributed.init_process_group("hpc")``, for tensors of
the CPU. It needs no session of ours: ranks meet through torch's own store, whoever has started them.
DistributedDataParallel and FSDP work on it. A thread of the group does the operations in the order of the calls: the
backward pass goes on while gradients are reduced.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed
from torch.futures import Future

from hpc.collective.group import ShmTensors
from hpc.collective.meeting import StoreMeeting
from hpc.collective.ops import ReduceOp
from hpc.collective.shm.group import ShmGroup
from hpc.collective.work import Lanes, Turns, Work

#: Its names, and the signatures of its methods, change from version to version.
dist: Any = torch.distributed
NAME = "hpc"
#: The tag of the parts that an `all_to_all` exchanges. Those of users are below.
_PARTS = 0xFFFF
_OPS = {
    dist.ReduceOp.SUM: ReduceOp.SUM,
    dist.ReduceOp.AVG: ReduceOp.AVERAGE,
    dist.ReduceOp.PRODUCT: ReduceOp.PRODUCT,
    dist.ReduceOp.MIN: ReduceOp.MIN,
    dist.ReduceOp.MAX: ReduceOp.MAX,
}


def _op(op: Any) -> ReduceOp:
    for theirs, ours in _OPS.items():
        if op == theirs:
            return ours
    raise ValueError(f"backend {NAME!r} has no reduction by {op}")


def _check_tag(tag: int) -> None:
    if not 0 <= tag < _PARTS:
        raise ValueError(f"backend {NAME!r} has tags from 0 to {_PARTS - 1}, not {tag}")


class _Pending(dist._Work):  # type: ignore[misc]
    """An operation that the group's thread does."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result_ = result
        self.error: BaseException | None = None
        self.work: Work | None = None
        self._ended: Future[None] = Future()
        # What a callback raises is an error to torch's C++ code too. `Future.set_exception` is one to Python alone:
        # DistributedDataParallel would take the exception for tensors, and crash.
        self.future: Any = self._ended.then(self._give)

    def _give(self, _: Any) -> Any:
        if self.error is not None:
            raise self.error
        return self.result_

    def run(self, call: Callable[[], None]) -> None:
        """Do it, in the group's thread."""
        try:
            call()
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._ended.set_result(None)

    def wait(self, timeout: timedelta = timedelta(0)) -> bool:
        """Until it is done. A timeout of nothing, or below, is none, as elsewhere in torch.

        Raises what the operation has raised, and RuntimeError after the timeout."""
        assert self.work is not None
        seconds = timeout.total_seconds()
        if not self.work.wait(seconds if seconds > 0 else None):
            raise RuntimeError(f"the operation was not done within {seconds:g} s; it goes on")
        return True

    def is_completed(self) -> bool:
        return self.work is not None and self.work.is_completed()

    def is_success(self) -> bool:
        return self.is_completed() and self.error is None

    def exception(self) -> BaseException | None:
        return self.error

    def get_future(self) -> Any:
        return self.future

    def result(self) -> Any:
        return self.result_


def address_of_this_node() -> str:
    """The address at which ranks of other nodes reach this one: that of the interface named for gloo, or of the host.

    Raises RuntimeError if the named interface has no address."""
    name = os.environ.get("GLOO_SOCKET_IFNAME", "").split(",")[0]
    if name:
        import fcntl
        import struct

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                packed = fcntl.ioctl(sock.fileno(), 0x8915, struct.pack("256s", name.encode()[:15]))
            except OSError as error:
                raise RuntimeError(f"GLOO_SOCKET_IFNAME names {name!r}, which has no address: {error}") from None
        return socket.inet_ntoa(packed[20:24])
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


class HpcProcessGroup(dist.ProcessGroup):  # type: ignore[misc]
    """A process group of torch whose operations are those of the backend "shm"."""

    def __init__(self, store: Any, rank: int, size: int, timeout: timedelta) -> None:
        super().__init__(rank, size)
        self._tensors = ShmTensors(
            ShmGroup(StoreMeeting(store, rank, size), rank, size, address_of_this_node(), timeout.total_seconds()), NAME
        )
        self._turns, self._lanes = Turns(NAME), Lanes(NAME)
        self._me, self._ranks, self._name = rank, size, ""

    def _begin(self, result: Any, call: Callable[..., None], *args: Any, turns: Turns | None = None) -> _Pending:
        pending = _Pending(result)
        pending.work = (turns or self._turns).begin(lambda: pending.run(lambda: call(*args)))
        return pending

    def getBackendName(self) -> str:
        return NAME

    def _get_backend(self, device: Any) -> HpcProcessGroup:
        """What torch asks for what this group can do with tensors of a device."""
        if torch.device(device).type != "cpu":
            raise RuntimeError(f"backend {NAME!r} is for tensors of the CPU, not of {device}")
        return self

    def _set_group_name(self, name: str) -> None:
        self._name = name
        self._tensors.name, self._tensors.title = f"torch {name}", f"group {name}"

    @property
    def group_name(self) -> str:
        return self._name

    def _each(self, tensors: Sequence[torch.Tensor], call: Callable[[torch.Tensor], None]) -> _Pending:
        def run() -> None:
            for tensor in tensors:
                call(tensor)

        return self._begin(list(tensors), run)

    def allreduce(self, tensors: Any, opts: Any = None) -> Any:
        if isinstance(tensors, torch.Tensor):
            tensors = [tensors]
        op = _op(opts.reduceOp if opts is not None and hasattr(opts, "reduceOp") else opts or dist.ReduceOp.SUM)
        return self._each(tensors, lambda tensor: self._tensors.allreduce(tensor, op))

    def allreduce_coalesced(self, tensors: Any, opts: Any) -> Any:
        return self.allreduce(tensors, opts)

    def broadcast(self, tensors: Any, opts: Any) -> Any:
        root = opts.rootRank
        return self._each(tensors, lambda tensor: self._tensors.broadcast(tensor, root))

    def reduce(self, tensors: Any, opts: Any) -> Any:
        root, op = opts.rootRank, _op(opts.reduceOp)
        return self._each(tensors, lambda tensor: self._tensors.reduce(tensor, root, op))

    def allgather(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        return self._begin(outputs, self._tensors.allgather, outputs[0], inputs[0])

    def _allgather_base(self, output: Any, tensor: Any, opts: Any = None) -> Any:
        return self._begin(output, self._tensors.allgather, list(output.view(-1).chunk(self._ranks)), tensor)

    def allgather_into_tensor_coalesced(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        def run() -> None:
            for output, tensor in zip(outputs, inputs):
                self._tensors.allgather(list(output.view(-1).chunk(self._ranks)), tensor)

        return self._begin(outputs, run)

    def reduce_scatter(self, outputs: Any, inputs: Any, opts: Any) -> Any:
        return self._begin(outputs, self._tensors.reducescatter, outputs[0], inputs[0], _op(opts.reduceOp))

    def _reduce_scatter_base(self, output: Any, tensor: Any, opts: Any) -> Any:
        parts = list(tensor.view(-1).chunk(self._ranks))
        return self._begin(output, self._tensors.reducescatter, output, parts, _op(opts.reduceOp))

    def reduce_scatter_tensor_coalesced(self, outputs: Any, inputs: Any, opts: Any) -> Any:
        op = _op(opts.reduceOp)

        def run() -> None:
            for output, tensor in zip(outputs, inputs):
                self._tensors.reducescatter(output, list(tensor.view(-1).chunk(self._ranks)), op)

        return self._begin(outputs, run)

    def gather(self, outputs: Any, inputs: Any, opts: Any) -> Any:
        into = outputs[0] if self._me == opts.rootRank else None
        return self._begin(outputs, self._tensors.gather, into, inputs[0], opts.rootRank)

    def scatter(self, outputs: Any, inputs: Any, opts: Any) -> Any:
        parts = inputs[0] if self._me == opts.rootRank else None
        return self._begin(outputs, self._tensors.scatter, outputs[0], parts, opts.rootRank)

    def alltoall(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        return self._begin(outputs, self._exchange, outputs, inputs)

    def alltoall_base(self, output: Any, tensor: Any, output_sizes: Any, input_sizes: Any, opts: Any = None) -> Any:
        if not output_sizes and not input_sizes:
            outs, ins = list(output.view(-1).chunk(self._ranks)), list(tensor.view(-1).chunk(self._ranks))
            return self._begin(output, self._tensors.alltoall, outs, ins)
        outs = output.split(output_sizes or output.size(0) // self._ranks)
        ins = tensor.split(input_sizes or tensor.size(0) // self._ranks)
        return self._begin(output, self._exchange, outs, ins)

    def _exchange(self, outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> None:
        """All to all, of parts that need not be equal: one rank cannot know whether they are on all of them. So they
        travel as messages."""
        others = [rank for rank in range(self._ranks) if rank != self._me]
        works = [self._lanes.to(r).begin(partial(self._tensors.send, inputs[r], r, _PARTS)) for r in others]
        works += [self._lanes.source(r).begin(partial(self._tensors.recv, outputs[r], r, _PARTS)) for r in others]
        outputs[self._me].copy_(inputs[self._me])
        for work in works:
            work.wait()

    def send(self, tensors: Any, rank: int, tag: int = 0) -> Any:
        (tensor,) = tensors
        _check_tag(tag)
        return self._begin(tensors, self._tensors.send, tensor, rank, tag, turns=self._lanes.to(rank))

    def recv(self, tensors: Any, rank: int, tag: int = 0) -> Any:
        (tensor,) = tensors
        _check_tag(tag)
        return self._begin(tensors, self._tensors.recv, tensor, rank, tag, turns=self._lanes.source(rank))

    def recv_anysource(self, tensors: Any, tag: int = 0) -> Any:
        raise ValueError(f"backend {NAME!r} receives from a rank that is named: give src")

    def barrier(self, opts: Any = None) -> Any:
        return self._begin(None, self._tensors.barrier)

    # Newer versions of torch call the same operations by these names.
    all_gather_single = _allgather_base
    all_gather_single_coalesced = allgather_into_tensor_coalesced
    all_to_all_single = alltoall_base
    reduce_scatter_single = _reduce_scatter_base
    reduce_scatter_single_coalesced = reduce_scatter_tensor_coalesced

    def shutdown(self) -> None:
        """Leave the group."""
        self._lanes.close()
        self._turns.close()
        self._tensors.destroy()


def _create(store: Any, rank: int, size: int, timeout: timedelta) -> HpcProcessGroup:
    return HpcProcessGroup(store, rank, size, timeout)


if NAME not in dist.Backend.backend_list:
    dist.Backend.register_backend(NAME, _create, devices=["cpu"])
