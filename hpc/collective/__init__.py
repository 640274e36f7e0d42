"""Collective operations of actors and tasks: allreduce, broadcast and others, on arrays of numpy and torch.

Ranks of one node work through memory that they share, those of different nodes over the network. Or gloo and NCCL do:
see ``backend`` of `init_collective_group`. The names are Ray's (`hpc.util.collective` has them under Ray's defaults).
Beyond Ray there are more operations, ``async_op``, and errors that name the rank that has died::

    @hpc.remote
    class Rank:
        def work(self, rank):
            collective.init_collective_group(2, rank)
            x = np.full(4, rank + 1.0)
            collective.allreduce(x)
            return x                                # [3. 3. 3. 3.] on both

    hpc.get([Rank.remote().work.remote(r) for r in range(2)])
"""

from hpc.collective.backends import available as is_backend_available
from hpc.collective.backends import register_collective_backend
from hpc.collective.calls import (
    allgather,
    allreduce,
    alltoall,
    barrier,
    broadcast,
    create_collective_group,
    destroy_collective_group,
    gather,
    get_collective_group_size,
    get_group_handle,
    get_rank,
    init_collective_group,
    is_group_initialized,
    recv,
    reduce,
    reducescatter,
    scatter,
    send,
)
from hpc.collective.custom import BaseGroup
from hpc.collective.errors import CollectiveError, CollectiveTimeoutError
from hpc.collective.ops import ReduceOp
from hpc.collective.work import Work

__all__ = [
    "BaseGroup",
    "CollectiveError",
    "CollectiveTimeoutError",
    "ReduceOp",
    "Work",
    "allgather",
    "allreduce",
    "alltoall",
    "barrier",
    "broadcast",
    "create_collective_group",
    "destroy_collective_group",
    "gather",
    "get_collective_group_size",
    "get_group_handle",
    "get_rank",
    "init_collective_group",
    "is_backend_available",
    "is_group_initialized",
    "recv",
    "reduce",
    "reducescatter",
    "register_collective_backend",
    "scatter",
    "send",
]
