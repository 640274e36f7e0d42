"""MPI between two ranks, as a gang of the session or as a program of mpiexec; and how long a gang takes to start.

python mpi.py gang SECONDS                   two ranks of a gang
mpiexec -n 2 python mpi.py plain SECONDS     the same measurements in a plain program
python mpi.py start RANKS ROUNDS             a session's first gang, and further ones
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np

SIZES = (8, 1 << 10, 1 << 16, 1 << 20, 1 << 24, 1 << 26)


def measure(comm: Any, seconds: float) -> dict[str, dict[int, float]]:
    """Microseconds by size: of a message one way, and of an allreduce of float32; the least of five turns of each.

    Each rank is on a core of its own. On a machine that is busy both may be put on one, under mpiexec as in a gang.
    A message of 8 bytes takes three times as long then.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[comm.Get_rank() % len(cores)]})
    found: dict[str, dict[int, float]] = {"message": {}, "allreduce": {}}
    for size in SIZES:
        data = np.zeros(size, np.uint8)
        numbers, total = np.zeros(size // 4, np.float32), np.zeros(size // 4, np.float32)
        found["message"][size] = _least(comm, seconds, lambda data=data: _round_trip(comm, data)) / 2
        found["allreduce"][size] = _least(comm, seconds, lambda a=numbers, b=total: comm.Allreduce(a, b))
    return found


def _round_trip(comm: Any, data: np.ndarray) -> None:
    if comm.Get_rank() == 0:
        comm.Send(data, 1)
        comm.Recv(data, 1)
    else:
        comm.Recv(data, 0)
        comm.Send(data, 0)


def _least(comm: Any, seconds: float, do: Any) -> float:
    """Microseconds of one ``do``; all ranks do it equally often."""
    begin = time.perf_counter()
    for _ in range(3):
        do()
    each = (time.perf_counter() - begin) / 3
    count = int(comm.bcast(max(3, seconds / 5 / max(each, 1e-7)), 0))
    turns = []
    for _ in range(5):
        comm.Barrier()
        begin = time.perf_counter()
        for _ in range(count):
            do()
        turns.append((time.perf_counter() - begin) / count)
    return min(turns) * 1e6


def say(record: dict[str, Any]) -> None:
    """One record for the benchmark."""
    print("@bench " + json.dumps(record), flush=True)


def plain(seconds: float) -> None:
    """In a program that mpiexec has started."""
    from mpi4py import MPI

    found = measure(MPI.COMM_WORLD, seconds)
    if MPI.COMM_WORLD.Get_rank() == 0:
        say(found)


def gang(seconds: float) -> None:
    """In a gang."""
    import hpc
    from hpc import mpi

    hpc.init(address="local", num_cpus=2)
    with mpi.gang(2) as ranks:
        say(hpc.get(ranks.run(measure, seconds)[0]))
    hpc.shutdown()


def start(ranks: int, rounds: int) -> None:
    """Seconds until a gang has its communicator, and until a first run has returned."""
    import hpc
    from hpc import mpi

    hpc.init(address="local", num_cpus=ranks)
    for _ in range(rounds):
        begin = time.perf_counter()
        with mpi.gang(ranks) as made:
            made.ready()
            ready = time.perf_counter() - begin
            hpc.get(made.run(lambda comm: comm.allreduce(1)))
            run = time.perf_counter() - begin - ready
            begin = time.perf_counter()
        say({"ready": ready, "run": run, "end": time.perf_counter() - begin})
    hpc.shutdown()


if __name__ == "__main__":
    how, *numbers = sys.argv[1:]
    if how == "start":
        start(*map(int, numbers))
    else:
        {"plain": plain, "gang": gang}[how](float(numbers[0]))
