"""The heat equation on a ring, cut among MPI ranks: halos go by MPI, the parts come back as references.

hpc-launch --nodes 2 examples/mpi_heat.py
"""

from __future__ import annotations

import numpy as np

import hpc
from hpc import mpi

CELLS, STEPS, RANKS = 1 << 16, 200, 2


def relax(comm, part, steps):
    """Some steps of the explicit scheme on this rank's part of the ring. Its neighbours' edges come by MPI."""
    rank, size = comm.Get_rank(), comm.Get_size()
    left, right = (rank - 1) % size, (rank + 1) % size
    u = np.empty(len(part) + 2)
    u[1:-1] = part
    for _ in range(steps):
        comm.Sendrecv(u[1:2], left, recvbuf=u[-1:], source=right)
        comm.Sendrecv(u[-2:-1], right, recvbuf=u[:1], source=left)
        u[1:-1] += 0.25 * (u[:-2] - 2 * u[1:-1] + u[2:])
    return u[1:-1]


@hpc.remote
def peak(part):
    """A task reads a rank's part where it lies."""
    return float(part.max())


def main() -> None:
    """Two runs of a gang: the second takes what the first has returned, and tasks look at it between them."""
    start = np.zeros(CELLS)
    start[CELLS // 2] = 1.0
    with mpi.gang(RANKS, placement_strategy="SPREAD") as gang:
        parts = gang.run(relax, mpi.per_rank(np.split(start, RANKS)), STEPS)
        print("after the first run:", max(hpc.get([peak.options(num_cpus=0).remote(part) for part in parts])))
        parts = gang.run(relax, mpi.per_rank(parts), STEPS)
        result = np.concatenate(hpc.get(parts))
    print("after the second run:", result.max(), "of", result.sum())
    assert abs(result.sum() - 1.0) < 1e-9


if __name__ == "__main__":
    main()
