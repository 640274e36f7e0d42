"""The face of a group, whatever its backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from hpc.collective import standing
from hpc.collective.errors import CollectiveError
from hpc.collective.ops import ReduceOp, reduction
from hpc.collective.shm.group import ShmGroup
from hpc.collective.shm.ranks import as_bytes
from hpc.collective.tensors import Flat, flatten


class Group(Protocol):
    """One rank's part of a group. Tensors are checked before: each is one, and lists have one for each rank.

    Operations work in place and return when this rank's part is done."""

    rank: int
    world_size: int
    backend: str
    #: Whether several threads may send, receive and do a collective at the same time.
    messages_apart: bool

    def allreduce(self, tensor: Any, op: ReduceOp) -> None: ...
    def reduce(self, tensor: Any, root: int, op: ReduceOp) -> None: ...
    def broadcast(self, tensor: Any, root: int) -> None: ...
    def allgather(self, outputs: Sequence[Any], tensor: Any) -> None: ...
    def reducescatter(self, tensor: Any, inputs: Sequence[Any], op: ReduceOp) -> None: ...
    def alltoall(self, outputs: Sequence[Any], inputs: Sequence[Any]) -> None: ...
    def gather(self, outputs: Sequence[Any] | None, tensor: Any, root: int) -> None: ...
    def scatter(self, tensor: Any, inputs: Sequence[Any] | None, root: int) -> None: ...
    def send(self, tensor: Any, to: int) -> None: ...
    def recv(self, tensor: Any, source: int) -> None: ...
    def barrier(self) -> None: ...
    def destroy(self) -> None:
        """Leave the group, and give back what it has."""
        ...


def same_sizes(flats: Sequence[Flat], like: Flat) -> None:
    """Raise ValueError if one of the arrays has another size or type."""
    for flat in flats:
        if flat.array.nbytes != like.array.nbytes:
            has, needs = flat.array.nbytes, like.array.nbytes
            raise ValueError(f"a tensor has {has} bytes where {needs} are needed: all must be equally large")
        if flat.dtype != like.dtype:
            raise ValueError(f"a tensor is of {flat.dtype} where {like.dtype} is needed: all must be of one type")


def _apart(data: np.ndarray, outputs: Sequence[np.ndarray]) -> np.ndarray:
    """The data, or a copy if results go into its memory while others still read it."""
    return data.copy() if any(np.may_share_memory(data, out) for out in outputs) else data


class ShmTensors:
    """The backend "shm" for tensors."""

    backend = "SHM"
    messages_apart = True

    def __init__(self, group: ShmGroup, name: str = "") -> None:
        self._group, self._ranks = group, group.ranks
        self.rank, self.world_size = group.rank, group.size
        #: What it is at (see `standing`).
        self.name, self.title = f"hpc {name}", f"the group {name}"
        self.begun, self.doing = 0, ""
        self.messages: dict[int, tuple[str, int]] = {}
        standing.enter(self)

    def _do(self, name: str, call: Callable[..., None], *args: Any) -> None:
        self.begun += 1
        self.doing = name
        try:
            self._run(name, call, *args)
        finally:
            self.doing = ""

    def _do_with(self, peer: int, name: str, call: Callable[..., None], *args: Any) -> None:
        thread = threading.get_ident()
        self.messages[thread] = name, peer
        try:
            self._run(name, call, *args)
        finally:
            del self.messages[thread]

    def _run(self, name: str, call: Callable[..., None], *args: Any) -> None:
        ended = self._group.ended()
        if ended is not None:
            raise CollectiveError(ended)
        try:
            call(*args)
        except BaseException as error:
            self._group.broken(error, name)
            raise

    def allreduce(self, tensor: Any, op: ReduceOp) -> None:
        flat = flatten(tensor, True)
        self._do("allreduce", self._ranks.allreduce, flat.array, reduction(flat.dtype, op))
        if flat.put_back:
            flat.put_back()

    def reduce(self, tensor: Any, root: int, op: ReduceOp) -> None:
        flat = flatten(tensor, self.rank == root)
        self._do("reduce", self._ranks.reduce, flat.array, reduction(flat.dtype, op), root)
        if flat.put_back:
            flat.put_back()

    def broadcast(self, tensor: Any, root: int) -> None:
        flat = flatten(tensor, self.rank != root)
        self._do("broadcast", self._ranks.broadcast, as_bytes(flat.array), root, flat.dtype)
        if flat.put_back:
            flat.put_back()

    def allgather(self, outputs: Sequence[Any], tensor: Any) -> None:
        flat, into = flatten(tensor, False), [flatten(out, True) for out in outputs]
        same_sizes(into, flat)
        outs = [as_bytes(i.array) for i in into]
        data = _apart(as_bytes(flat.array), outs[: self.rank] + outs[self.rank + 1 :])
        self._do("allgather", self._ranks.allgather, outs, data, flat.dtype)
        put_back(into)

    def reducescatter(self, tensor: Any, inputs: Sequence[Any], op: ReduceOp) -> None:
        flat, parts = flatten(tensor, True), [flatten(part, False) for part in inputs]
        same_sizes(parts, flat)
        how = reduction(flat.dtype, op)
        self._do("reducescatter", self._ranks.reducescatter, flat.array, [p.array for p in parts], how)
        put_back([flat])

    def alltoall(self, outputs: Sequence[Any], inputs: Sequence[Any]) -> None:
        into, parts = [flatten(out, True) for out in outputs], [flatten(part, False) for part in inputs]
        same_sizes([*into, *parts], parts[0])
        outs = [as_bytes(i.array) for i in into]
        ins = [_apart(as_bytes(p.array), outs) for p in parts]
        self._do("alltoall", self._ranks.alltoall, outs, ins, parts[0].dtype)
        put_back(into)

    def gather(self, outputs: Sequence[Any] | None, tensor: Any, root: int) -> None:
        flat = flatten(tensor, False)
        into = [flatten(out, True) for out in outputs or ()]
        same_sizes(into, flat)
        outs = None if outputs is None else [as_bytes(i.array) for i in into]
        data = as_bytes(flat.array)
        if outs is not None:
            data = _apart(data, outs[:root] + outs[root + 1 :])
        self._do("gather", self._ranks.gather, outs, data, root, flat.dtype)
        put_back(into)

    def scatter(self, tensor: Any, inputs: Sequence[Any] | None, root: int) -> None:
        flat = flatten(tensor, True)
        parts = [flatten(part, False) for part in inputs or ()]
        same_sizes(parts, flat)
        ins = None if inputs is None else [as_bytes(p.array) for p in parts]
        self._do("scatter", self._ranks.scatter, as_bytes(flat.array), ins, root, flat.dtype)
        put_back([flat])

    def send(self, tensor: Any, to: int, tag: int = 0) -> None:
        flat = flatten(tensor, False)
        self._do_with(to, "send", self._ranks.send, as_bytes(flat.array), to, flat.dtype, tag)

    def recv(self, tensor: Any, source: int, tag: int = 0) -> None:
        flat = flatten(tensor, True)
        self._do_with(source, "recv", self._ranks.receive, as_bytes(flat.array), source, flat.dtype, tag)
        put_back([flat])

    def barrier(self) -> None:
        self._do("barrier", self._ranks.barrier)

    def destroy(self) -> None:
        standing.leave(self)
        self._group.close()


def put_back(flats: Sequence[Flat]) -> None:
    """Bring results that are in copies to where they belong."""
    for flat in flats:
        if flat.put_back:
            flat.put_back()
