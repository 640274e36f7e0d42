"""Allreduce of float32 by one of several libraries, and steps of DistributedDataParallel.

    python collective.py hpc RANKS ROUNDS      actors of a session; backend "shm"
    python collective.py gloo RANKS ROUNDS     processes with torch.distributed
    mpiexec -n RANKS python collective.py mpi RANKS ROUNDS
    python collective.py ddp BACKEND ROUNDS    two ranks; gloo, or hpc's backend for torch

Prints ``@bench {"bytes": ..., "us": ...}`` for each size (the best round), or ``@bench {"step_ms": ..., "sum": ...}``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.probes.network import BATCH, INPUTS, network

SIZES = (8, 1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 32 << 20, 100_000_000)
#: Bytes that a round moves at most, and operations that it makes.
ROUND_BYTES, ROUND_MOST, ROUND_LEAST = 200_000_000, 2000, 3
STEPS, WARM = 60, 10


def measure(reduce: Callable[[Any], None], barrier: Callable[[], None], make: Callable[[int], Any], rounds: int) -> Any:
    """Seconds of an operation for each size: the best of the rounds. ``make`` makes a tensor of so many numbers."""
    found = []
    for size in SIZES:
        tensor = make(size // 4)
        count = max(ROUND_LEAST, min(ROUND_MOST, ROUND_BYTES // (size + 20_000)))
        best = float("inf")
        for turn in range(rounds + 1):
            barrier()
            began = time.perf_counter()
            for _ in range(count if turn else 2):
                reduce(tensor)
            if turn:
                best = min(best, (time.perf_counter() - began) / count)
        found.append({"bytes": size, "us": best * 1e6})
    return found


def say(records: list[dict[str, Any]]) -> None:
    for record in records:
        print("@bench " + json.dumps(record), flush=True)


def ours(ranks: int, rounds: int) -> None:
    import hpc
    from hpc import collective

    class Rank:
        def work(self, rank: int) -> Any:
            collective.init_collective_group(ranks, rank, "shm")
            reduce, barrier = collective.allreduce, collective.barrier
            found = measure(reduce, barrier, lambda n: np.zeros(n, np.float32), rounds)
            collective.destroy_collective_group()
            return found

    hpc.init(address="local", num_cpus=ranks)
    actors = [hpc.remote(Rank).remote() for _ in range(ranks)]
    say(hpc.get([actor.work.remote(rank) for rank, actor in enumerate(actors)])[0])
    hpc.shutdown()


def in_processes(ranks: int, call: Callable[..., None], *args: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        store = os.path.join(folder, "store")
        processes = [context.Process(target=call, args=(rank, ranks, store, *args)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit("a rank failed")


def init_torch(backend: str, rank: int, ranks: int, store: str) -> Any:
    import torch.distributed as dist

    if backend == "hpc":
        import hpc.collective.torch_backend  # noqa: F401 (registers the backend)
    dist.init_process_group(
        backend, store=dist.FileStore(store, ranks), rank=rank, world_size=ranks, timeout=timedelta(minutes=2)
    )
    return dist


def gloo(rank: int, ranks: int, store: str, rounds: int) -> None:
    import torch

    dist = init_torch("gloo", rank, ranks, store)
    torch.set_num_threads(1)
    found = measure(dist.all_reduce, dist.barrier, torch.zeros, rounds)
    if rank == 0:
        say(found)
    dist.destroy_process_group()


def mpi(rounds: int) -> None:
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    found = measure(
        lambda tensor: world.Allreduce(MPI.IN_PLACE, tensor), world.Barrier, lambda n: np.zeros(n, np.float32), rounds
    )
    if world.rank == 0:
        say(found)


def ddp(rank: int, ranks: int, store: str, backend: str, rounds: int) -> None:
    """A small network with 3.7 million parameters, batches of 16."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    dist = init_torch(backend, rank, ranks, store)
    model = network()
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.01)
    torch.manual_seed(rank + 1)
    times = []
    for step in range(WARM + STEPS * rounds):
        batch = torch.randn(BATCH, INPUTS)
        began = time.perf_counter()
        optimizer.zero_grad()
        wrapped(batch).square().mean().backward()
        optimizer.step()
        if step >= WARM:
            times.append(time.perf_counter() - began)
    if rank == 0:
        total = sum(p.double().sum().item() for p in model.parameters())
        say([{"step_ms": float(np.median(times)) * 1e3, "sum": total}])
    dist.destroy_process_group()


def main() -> None:
    kind, what, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if kind == "hpc":
        ours(int(what), rounds)
    elif kind == "gloo":
        in_processes(int(what), gloo, rounds)
    elif kind == "mpi":
        mpi(rounds)
    else:
        in_processes(2, ddp, what, rounds)


if __name__ == "__main__":
    main()
