"""A function of a communicator as a gang of its own, among tasks.

hpc-launch --nodes 2 examples/mpi_pi.py
"""

from __future__ import annotations

import numpy as np

import hpc
from hpc import mpi


@hpc.remote
def sample(seed, count):
    """Points in the unit square: a task makes them, and the ranks read them where they lie."""
    return np.random.default_rng(seed).random((count, 2))


@mpi.remote(ranks=2)
def inside(comm, points):
    """The share of the points in the quarter of the circle, counted by all ranks together."""
    from mpi4py import MPI

    mine = points[comm.Get_rank() :: comm.Get_size()]
    hits = comm.allreduce(int((np.square(mine).sum(axis=1) <= 1.0).sum()), MPI.SUM)
    return hits / len(points)


def main() -> None:
    """Each of two gangs waits for its task, and for room."""
    shares = [inside.remote(sample.options(num_cpus=0).remote(seed, 200_000)) for seed in range(2)]
    pi = 4 * np.mean([hpc.get(refs[0]) for refs in shares])
    print("pi is about", pi)
    assert abs(pi - np.pi) < 0.02


if __name__ == "__main__":
    main()
