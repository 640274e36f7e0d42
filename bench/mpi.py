"""MPI in a gang beside the same program under mpiexec, and how long gangs take to start. In one run, in turns."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench.children import PROBES, Children
from bench.parts import Skipped, table
from bench.table import number

LIMIT_S = 240.0
ROUNDS = 3
#: What a plain program does at least: it starts, and has its communicator.
EMPTY = "from mpi4py import MPI; MPI.COMM_WORLD.Barrier(); print('@bench {}', flush=True)"


def mpi(children: Children, quick: bool) -> dict[str, Any]:
    """A row for each size of messages and of allreduce, and for each number of ranks that start."""
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if importlib.util.find_spec("mpi4py") is None or not mpiexec.exists():
        raise Skipped("needs mpi4py and MPICH in this environment: pip install 'hpc[mpi]'")
    probe, seconds = str(PROBES / "mpi.py"), "0.05" if quick else "0.5"
    plain = [str(mpiexec), "-n", "2", sys.executable, probe, "plain", seconds]
    gang = [sys.executable, probe, "gang", seconds]
    found: dict[str, list[dict[str, Any]]] = {"plain": [], "gang": []}
    for _ in range(1 if quick else ROUNDS):
        found["plain"] += children.run(plain, LIMIT_S).records
        found["gang"] += children.run(gang, LIMIT_S).records
    rows = []
    for what in ("message", "allreduce"):
        for size in found["gang"][0][what]:
            theirs, ours = (min(one[what][size] for one in found[who]) for who in ("plain", "gang"))
            rows.append([f"{what}, {_size(int(size))}", number(ours), number(theirs), number(ours / theirs)])
    for ranks in (2, 4):
        starts = children.run([sys.executable, probe, "start", str(ranks), "5"], LIMIT_S).records
        ours = statistics.median(one["ready"] + one["run"] for one in starts) * 1e3
        theirs = statistics.median(_program(children, [str(mpiexec), "-n", str(ranks)]) for _ in range(5)) * 1e3
        rows.append([f"start of {ranks} ranks, ms", number(ours), number(theirs), number(ours / theirs)])
    note = (
        "Microseconds: a message of so many bytes one way, between two ranks, each on a core of its own, and an "
        "allreduce of float32 over them; the least of the rounds. The rows of starts are milliseconds: a gang in a "
        "session that is there until its first run has returned, and `mpiexec` of a program that does nothing, whole."
    )
    return table("MPI in a gang", note, ["what", "gang", "mpiexec", "gang / mpiexec"], rows)


def _program(children: Children, mpiexec: list[str]) -> float:
    begin = time.perf_counter()
    children.run([*mpiexec, sys.executable, "-c", EMPTY], LIMIT_S)
    return time.perf_counter() - begin


def _size(size: int) -> str:
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"
