"""The operations as programs call them: arguments are checked, the group is found, and its turn is awaited."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from hpc import spi
from hpc.collective.backends import is_known, why_unavailable
from hpc.collective.membership import TIMEOUT_S, Member, declare, membership
from hpc.collective.ops import ReduceOp
from hpc.collective.tensors import check_tensor, check_tensors
from hpc.collective.work import Turns, Work

_log = logging.getLogger(__name__)


def init_collective_group(
    world_size: int,
    rank: int,
    backend: str = "SHM",
    group_name: str = "default",
    gloo_timeout: int = 30000,
    *,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Make this process, a task's or an actor's, a rank of a group. All ranks call it; it returns when all have.

    ``backend``: "shm" (memory of the node, and plain TCP between nodes), "gloo", "nccl", or one that was registered.
    ``gloo_timeout``: milliseconds for all ranks to come, whatever the backend. ``timeout_s``: the longest wait of an
    operation for another rank.

    Raises RuntimeError outside of tasks and actors, if this process is in a group of this name, and for a backend that
    is not available. Raises ValueError for an empty name, AssertionError for a rank that is not among ``world_size``,
    and CollectiveTimeoutError if ranks do not come."""
    _check_inside_actor()
    if not group_name:
        raise ValueError(f"group_name '{group_name}' needs to be a string.")
    assert world_size > 0, f"world_size must be above 0, not {world_size}"
    assert 0 <= rank < world_size, f"rank {rank} is not one of 0 to {world_size - 1}"
    membership.join(group_name, rank, world_size, str(backend), gloo_timeout, timeout_s)


def create_collective_group(
    actors: Sequence[Any],
    world_size: int,
    ranks: Sequence[int],
    backend: str = "SHM",
    group_name: str = "default",
    gloo_timeout: int = 30000,
    *,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Declare these actors to be a group, from the driver. Each joins at its first operation.

    Raises RuntimeError if a group of this name is declared, for ranks that are no permutation of all, and for a backend
    that is none."""
    if len(ranks) != len(actors):
        raise RuntimeError(
            f"Each actor should correspond to one rank. Got '{len(ranks)}' ranks but '{len(actors)}' actors"
        )
    if set(ranks) != set(range(len(ranks))):
        raise RuntimeError(
            f"Ranks must be a permutation from 0 to '{len(ranks)}'. Got '{''.join(str(r) for r in ranks)}'."
        )
    if world_size <= 0:
        raise RuntimeError(f"World size must be greater than zero. Got '{world_size}'.")
    if world_size != len(actors):
        raise RuntimeError(f"a group of {len(actors)} actors has {len(actors)} ranks, not world_size={world_size}")
    if not is_known(backend):
        raise RuntimeError(why_unavailable(backend))
    declare(group_name, [a._actor_id.hex() for a in actors], ranks, str(backend), gloo_timeout, timeout_s)


def destroy_collective_group(group_name: str = "default") -> None:
    """Leave a group. Operations that were begun are done first. Warns if this process is in none of this name."""
    _check_inside_actor()
    if not membership.leave(group_name):
        _log.warning("The group '%s' does not exist.", group_name)


def is_group_initialized(group_name: str = "default") -> bool:
    """Whether this process has joined a group of this name."""
    return membership.has(group_name)


def get_rank(group_name: str = "default") -> int:
    """This process's rank in the group; -1 if it has not joined it."""
    _check_inside_actor()
    member = membership.find(group_name)
    return -1 if member is None else member.rank


def get_collective_group_size(group_name: str = "default") -> int:
    """The number of ranks of the group; -1 if this process has not joined it."""
    _check_inside_actor()
    member = membership.find(group_name)
    return -1 if member is None else member.world_size


def get_group_handle(group_name: str = "default") -> Any:
    """This process's part of the group, with ``rank`` and ``world_size``. An actor of a declared group joins it.

    Raises RuntimeError if this process is in no group of this name."""
    _check_inside_actor()
    return membership.get(group_name).group


# ---------------------------------------------------------------- operations


def allreduce(
    tensor: Any, group_name: str = "default", op: ReduceOp = ReduceOp.SUM, *, async_op: bool = False
) -> Work | None:
    """Combine the tensors of all ranks, in place on each. All ranks get the same bits.

    Like every operation here: it returns None when this rank's part is done; with ``async_op=True`` a `Work` at once.
    Raises CollectiveError if a rank has died, has left or calls something else, CollectiveTimeoutError if one does not
    come in time. Raises RuntimeError for what is no tensor, ValueError for tensors that the backend cannot take."""
    check_tensor(tensor)
    member = membership.find(group_name) or membership.get(group_name)
    return _do(member.turns, lambda: member.group.allreduce(tensor, _op(op)), async_op)


def reduce(
    tensor: Any, dst_rank: int = 0, group_name: str = "default", op: ReduceOp = ReduceOp.SUM, *, async_op: bool = False
) -> Work | None:
    """Combine the tensors of all ranks, in place on ``dst_rank``. Those of the others stay as they are."""
    check_tensor(tensor)
    member = _member(group_name, dst_rank)
    return _do(member.turns, lambda: member.group.reduce(tensor, dst_rank, _op(op)), async_op)


def broadcast(tensor: Any, src_rank: int = 0, group_name: str = "default", *, async_op: bool = False) -> Work | None:
    """All ranks' tensors become that of ``src_rank``."""
    check_tensor(tensor)
    member = _member(group_name, src_rank)
    return _do(member.turns, lambda: member.group.broadcast(tensor, src_rank), async_op)


def allgather(
    tensor_list: list[Any], tensor: Any, group_name: str = "default", *, async_op: bool = False
) -> Work | None:
    """``tensor_list[r]`` becomes the tensor of rank r, on each rank."""
    check_tensor(tensor)
    check_tensors(tensor_list)
    member = membership.get(group_name)
    _check_length(member, tensor_list, "allgather")
    return _do(member.turns, lambda: member.group.allgather(tensor_list, tensor), async_op)


def reducescatter(
    tensor: Any,
    tensor_list: list[Any],
    group_name: str = "default",
    op: ReduceOp = ReduceOp.SUM,
    *,
    async_op: bool = False,
) -> Work | None:
    """``tensor`` becomes the combination of what all ranks have for this one in their ``tensor_list``."""
    check_tensor(tensor)
    check_tensors(tensor_list)
    member = membership.get(group_name)
    _check_length(member, tensor_list, "reducescatter")
    return _do(member.turns, lambda: member.group.reducescatter(tensor, tensor_list, _op(op)), async_op)


def alltoall(
    output_list: list[Any], tensor_list: list[Any], group_name: str = "default", *, async_op: bool = False
) -> Work | None:
    """``output_list[r]`` becomes what rank r has for this one in its ``tensor_list``. All are equally large."""
    check_tensors(output_list)
    check_tensors(tensor_list)
    member = membership.get(group_name)
    _check_length(member, tensor_list, "alltoall")
    _check_length(member, output_list, "alltoall")
    return _do(member.turns, lambda: member.group.alltoall(output_list, tensor_list), async_op)


def gather(
    tensor: Any,
    tensor_list: list[Any] | None = None,
    dst_rank: int = 0,
    group_name: str = "default",
    *,
    async_op: bool = False,
) -> Work | None:
    """On ``dst_rank``, ``tensor_list[r]`` becomes the tensor of rank r. The others give no list."""
    check_tensor(tensor)
    member = _member(group_name, dst_rank)
    outputs = _roots_list(member, tensor_list, dst_rank, "gather")
    return _do(member.turns, lambda: member.group.gather(outputs, tensor, dst_rank), async_op)


def scatter(
    tensor: Any,
    tensor_list: list[Any] | None = None,
    src_rank: int = 0,
    group_name: str = "default",
    *,
    async_op: bool = False,
) -> Work | None:
    """``tensor`` becomes what ``src_rank`` has for this rank in its ``tensor_list``. The others give no list."""
    check_tensor(tensor)
    member = _member(group_name, src_rank)
    inputs = _roots_list(member, tensor_list, src_rank, "scatter")
    return _do(member.turns, lambda: member.group.scatter(tensor, inputs, src_rank), async_op)


def send(tensor: Any, dst_rank: int, group_name: str = "default", *, async_op: bool = False) -> Work | None:
    """Send a tensor to ``dst_rank``, which calls `recv`. Returns when the tensor may be changed again."""
    check_tensor(tensor)
    member = _member(group_name, dst_rank)
    if dst_rank == member.rank:
        raise RuntimeError(f"The destination rank '{dst_rank}' is self.")
    return _do(member.to(dst_rank), lambda: member.group.send(tensor, dst_rank), async_op)


def recv(tensor: Any, src_rank: int, group_name: str = "default", *, async_op: bool = False) -> Work | None:
    """The tensor becomes what ``src_rank`` sends to this rank."""
    check_tensor(tensor)
    member = _member(group_name, src_rank)
    if src_rank == member.rank:
        raise RuntimeError(f"The destination rank '{src_rank}' is self.")
    return _do(member.source(src_rank), lambda: member.group.recv(tensor, src_rank), async_op)


def barrier(group_name: str = "default", *, async_op: bool = False) -> Work | None:
    """Wait until all ranks have called it."""
    member = membership.get(group_name)
    return _do(member.turns, member.group.barrier, async_op)


def _do(turns: Turns, call: Callable[[], None], async_op: bool) -> Work | None:
    if async_op:
        return turns.begin(call)
    turns.run(call)
    return None


def _op(op: Any) -> ReduceOp:
    if not isinstance(op, ReduceOp):
        raise TypeError(f"op must be a ReduceOp, as ReduceOp.SUM, not {op!r}")
    return op


def _member(group_name: str, rank: int) -> Member:
    member = membership.get(group_name)
    if rank < 0:
        raise ValueError(f"rank '{rank}' is negative.")
    if rank >= member.world_size:
        raise ValueError(f"rank '{rank}' must be less than world size '{member.world_size}'")
    return member


def _check_length(member: Member, tensors: list[Any], name: str) -> None:
    if len(tensors) != member.world_size:
        raise RuntimeError(f"The length of the tensor list operands to {name} must be equal to world_size.")


def _roots_list(member: Member, tensors: list[Any] | None, root: int, name: str) -> list[Any] | None:
    if member.rank != root:
        return None
    check_tensors(tensors)
    assert tensors is not None
    _check_length(member, tensors, name)
    return tensors


def _check_inside_actor() -> None:
    if spi.whoami().kind != "worker":
        raise RuntimeError("The collective APIs shall be only used inside a Ray actor or task.")
