"""Collectives beside torch's gloo and MPICH: allreduce of 8 bytes to 100 MB, and steps of DistributedDataParallel."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

from bench import spaces
from bench.children import Children
from bench.parts import Skipped, table
from bench.plot import NoPlot, draw_lines
from bench.table import NOTHING, number

LIMIT_S = 200.0
RANKS = (2, 4)
TITLES = {"hpc": "hpc", "gloo": "torch gloo", "mpi": "MPICH"}


def _mpiexec() -> str | None:
    """The mpiexec beside this Python, of the wheel `mpich`; or that of the path."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    return found if found and importlib.util.find_spec("mpi4py") else None


def _commands(ranks: int, rounds: int) -> dict[str, list[str]]:
    probe = [sys.executable, str(spaces.ROOT / "bench" / "probes" / "collective.py")]
    found = {kind: [*probe, kind, str(ranks), str(rounds)] for kind in ("hpc", "gloo")}
    mpiexec = _mpiexec()
    if mpiexec is not None:
        found["mpi"] = [mpiexec, "-n", str(ranks), *probe, "mpi", str(ranks), str(rounds)]
    return found


def collective(children: Children, quick: bool) -> dict[str, Any]:
    """A row for each number of ranks and size."""
    if importlib.util.find_spec("torch") is None:
        raise Skipped("PyTorch is not installed (pip install 'hpc[train]')")
    rounds, turns = (2, 1) if quick else (3, 3)
    rows, lines = [], {}
    for ranks in RANKS:
        best: dict[str, dict[int, float]] = {}
        for _ in range(turns):
            for kind, command in _commands(ranks, rounds).items():
                for record in children.run(command, LIMIT_S).records:
                    size, us = record["bytes"], record["us"]
                    kept = best.setdefault(kind, {})
                    kept[size] = min(kept.get(size, us), us)
        lines |= {
            f"{TITLES[k]}, {ranks} ranks": [(s, s / us / 1e3) for s, us in v.items()]
            for k, v in best.items()
            if k != "mpi" or ranks == 2
        }
        rows += [_row(ranks, size, best) for size in best["hpc"]]
    plots = []
    try:
        path = spaces.ROOT / "docs" / "plots" / "collective.svg"
        draw_lines(lines, "bytes", "GB/s (both axes logarithmic)", path)
        plots = ["collective.svg"]
    except NoPlot:
        pass
    note = (
        "Microseconds for an allreduce of float32 on one node, in place, the best of the rounds; the libraries take "
        f"turns. hpc: numpy arrays of actors, backend shm. {_steps(children, rounds)}"
    )
    head = ["ranks", "bytes", *(f"{TITLES[k]}, µs" for k in TITLES), "hpc GB/s", "gloo / hpc", "MPICH / hpc"]
    return {**table("Collectives", note, head, rows), "plots": plots}


def _row(ranks: int, size: int, best: dict[str, dict[int, float]]) -> list[str]:
    us = {kind: found[size] for kind, found in best.items()}
    cells = [number(us[kind]) if kind in us else NOTHING for kind in TITLES]
    ratios = [number(us[kind] / us["hpc"]) if kind in us else NOTHING for kind in ("gloo", "mpi")]
    return [str(ranks), str(size), *cells, number(size / us["hpc"] / 1e3), *ratios]


def _steps(children: Children, rounds: int) -> str:
    """A sentence on steps of DistributedDataParallel."""
    probe = [sys.executable, str(spaces.ROOT / "bench" / "probes" / "collective.py"), "ddp"]
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for backend in ("hpc", "gloo"):
            (record,) = children.run([*probe, backend, "1"], LIMIT_S).records
            if backend not in best or record["step_ms"] < best[backend]["step_ms"]:
                best[backend] = record
    ours, theirs = best["hpc"], best["gloo"]
    apart = abs(ours["sum"] - theirs["sum"]) / max(1.0, abs(theirs["sum"]))
    return (
        f"A step of DistributedDataParallel (2 ranks, 3.7 million parameters): {number(ours['step_ms'])} ms with "
        f"torch's backend hpc, {number(theirs['step_ms'])} ms with gloo: {number(theirs['step_ms'] / ours['step_ms'])} "
        f"times. The sums of the weights are {apart:.1e} apart."
    )
