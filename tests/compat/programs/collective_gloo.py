"""Collective operations of actors by gloo: declared and joined groups, each operation, and what is refused."""
# needs: torch

import numpy as np

import hpc as ray
from hpc.util import collective
from hpc.util.collective.types import Backend, ReduceOp


@ray.remote(num_cpus=0)
class Rank:
    def join(self, size, rank, name="default"):
        collective.init_collective_group(size, rank, "gloo", name)
        return collective.get_rank(name), collective.get_collective_group_size(name)

    def each(self, rank, name="default"):
        found = []
        mine = np.full(3, rank + 1.0, np.float32)
        found.append((collective.allreduce(mine, name), mine.tolist()))
        mine = np.full(2, rank + 2.0, np.float32)
        collective.allreduce(mine, name, ReduceOp.PRODUCT)
        found.append(mine.tolist())
        mine = np.full(2, rank + 1.0, np.float32)
        collective.reduce(mine, 1, name, ReduceOp.MAX)
        found.append(mine.tolist())
        mine = np.full(2, rank + 5.0, np.float32)
        collective.broadcast(mine, 1, name)
        found.append(mine.tolist())
        outs = [np.zeros(2, np.float32) for _ in range(2)]
        collective.allgather(outs, np.full(2, rank + 1.0, np.float32), name)
        found.append([out.tolist() for out in outs])
        out = np.zeros(2, np.float32)
        collective.reducescatter(out, [np.full(2, rank + r + 1.0, np.float32) for r in range(2)], name)
        found.append(out.tolist())
        if rank == 0:
            collective.send(np.full(2, 9.0, np.float32), 1, name)
        else:
            out = np.zeros(2, np.float32)
            collective.recv(out, 0, name)
            found.append(out.tolist())
        collective.barrier(name)
        return found

    def refused(self):
        found = []
        for call in (
            lambda: collective.allreduce([1.0]),
            lambda: collective.allreduce(np.ones(1), "nothing of this name"),
            lambda: collective.broadcast(np.ones(1), 2),
            lambda: collective.broadcast(np.ones(1), -1),
            lambda: collective.allgather(np.ones(2), np.ones(1)),
            lambda: collective.allgather([], np.ones(1)),
            lambda: collective.allgather([np.ones(1)], np.ones(1)),
            lambda: collective.init_collective_group(2, 0, "gloo", ""),
            lambda: collective.init_collective_group(2, 0, "gloo"),
        ):
            try:
                found.append(call())
            except Exception as error:
                found.append(f"{type(error).__name__}: {error}")
        return found

    def has(self, name):
        return (
            collective.is_group_initialized(name),
            collective.get_rank(name),
            collective.get_collective_group_size(name),
        )

    def leave(self, name="default"):
        return collective.destroy_collective_group(name)


ray.init(num_cpus=2, include_dashboard=False, logging_level="error")
ranks = [Rank.remote() for _ in range(2)]
print(ray.get([rank.has.remote("default") for rank in ranks]))
print(ray.get([rank.join.remote(2, r) for r, rank in enumerate(ranks)]))
for found in zip(*ray.get([rank.each.remote(r) for r, rank in enumerate(ranks)])):
    print(*found)
for text in ray.get(ranks[0].refused.remote()):
    print(text)
print(ray.get([rank.leave.remote() for rank in ranks]))
print(ray.get([rank.has.remote("default") for rank in ranks]))

print(collective.create_collective_group(ranks, 2, [1, 0], "gloo", "declared"))
for actors, size, numbers in ((ranks, 2, [0, 1]), (ranks, 2, [0, 2]), (ranks, 2, [0]), (ranks, 0, [0, 1])):
    try:
        name = "declared" if numbers == [0, 1] and size else "other"
        collective.create_collective_group(actors, size, numbers, "gloo", name)
    except RuntimeError as error:
        print(error)
for found in zip(*ray.get([rank.each.remote(1 - r, "declared") for r, rank in enumerate(ranks)])):
    print(*found)
try:
    collective.init_collective_group(2, 0, "gloo")
except RuntimeError as error:
    print(error)
print(collective.gloo_available(), collective.is_backend_available("gloo"), collective.is_backend_available("x"))
print(Backend("gloo"), Backend.NCCL, [op.name for op in ReduceOp][:4])
