"""Gangs of MPI ranks with a live mpi4py communicator, beside tasks and actors.

A gang is a fixed number of processes, placed together or not at all. They are the ranks of an MPI world of their own.
Functions run on all ranks at once, with the communicator as first argument, and return one reference for each rank.
The gang ends with the first rank that does, and says which it was. `docs/mpi.md` has it all.
"""

from __future__ import annotations

from hpc.exceptions import GangError
from hpc.mpi.gang import Gang, gang
from hpc.mpi.once import RankFunction, remote
from hpc.mpi.rank import state
from hpc.mpi.work import PerRank, per_rank
from hpc.mpi.world import MpiLibraryError

__all__ = [
    "Gang",
    "GangError",
    "MpiLibraryError",
    "PerRank",
    "RankFunction",
    "gang",
    "per_rank",
    "remote",
    "state",
]
