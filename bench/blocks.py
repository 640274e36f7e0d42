"""Blocks of data between tasks: what a result of 16 kB to 32 MB costs beyond a bare task, items of generators, reading.

Beside Ray in the same turns, and beside a copy of as many bytes in memory, below which nothing that is stored can come.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
from typing import Any

from bench.children import Children
from bench.metrics import HPC, RAY, Target
from bench.parts import Skipped, table
from bench.peers import PeerError, find
from bench.stats import summary
from bench.table import NOTHING, cell, number
from bench.tune import Line, gathered, row

LIMIT_S = 240.0
SIZES = (16_000, 160_000, 1_000_000, 8_000_000, 32_000_000)
QUICK_SIZES = (160_000, 8_000_000)
#: What the probe measures, and how it is called here.
WHAT = {
    "array": "{size} array returned, µs beyond a bare task",
    "table": "{size} table returned",
    "items": "{size} array as a generator's item with what is said of it, µs",
    "tables": "{size} table as such an item",
    "chain": "{size} array taken and another one returned, µs beyond a bare task",
    "read": "{size} array taken by one task alone, µs beyond one that takes nothing",
    "get": "{size} array returned by one task alone, and read",
}
#: The most microseconds; for items of 1 MB that is 2.5 GB/s, of 8 MB 4 GB/s.
TARGETS = {
    ("array", 160_000): 100,
    ("table", 160_000): 100,
    ("array", 1_000_000): 300,
    ("table", 1_000_000): 300,
    ("items", 1_000_000): 400,
    ("tables", 1_000_000): 400,
    ("items", 8_000_000): 2_000,
    ("tables", 8_000_000): 2_000,
}
#: The same beyond a copy of as many bytes.
BEYOND_COPY = {("array", 8_000_000): 300, ("table", 8_000_000): 300}


def title(size: int) -> str:
    """A size in words."""
    return f"{size // 1_000_000} MB" if size >= 1_000_000 else f"{size // 1_000} kB"


def targets(name: str, size: int, copy_us: float) -> tuple[Target, ...]:
    """The targets of a line, where a copy of as many bytes takes so long."""
    if (name, size) in BEYOND_COPY:
        return (Target(at_most=round(copy_us) + BEYOND_COPY[name, size]),)
    return (Target(at_most=TARGETS[name, size]),) if (name, size) in TARGETS else ()


def lines(copies_us: dict[int, float]) -> list[tuple[int, Line]]:
    """The lines of the table, each with its size. ``copies_us``: how long a copy of each size takes."""
    return [
        (size, Line(what.format(size=title(size)), f"{name} {size}", targets(name, size, copy_us), RAY))
        for size, copy_us in copies_us.items()
        for name, what in WHAT.items()
    ]


def ray_python() -> str:
    """An interpreter with Ray and pyarrow; PeerError says why there is none."""
    python = find(RAY).python
    if subprocess.run([python, "-c", "import pyarrow"], capture_output=True, timeout=120).returncode != 0:
        raise PeerError("pyarrow cannot be imported there: it needs ray[data]")
    return python


def blocks(children: Children, quick: bool) -> dict[str, Any]:
    """All lines, hpc and Ray in turns."""
    if importlib.util.find_spec("pyarrow") is None:
        raise Skipped("it needs pyarrow (pip install 'hpc[data]')")
    pythons, said = {HPC: sys.executable}, ""
    try:
        pythons[RAY] = ray_python()
    except PeerError as error:
        said = f" Ray: {error}."
    sizes, rounds = (QUICK_SIZES, 1) if quick else (SIZES, 3)
    args = (",".join(map(str, sizes)), "2e7" if quick else "2e8", "2" if quick else "3")
    records: dict[str, list[dict[str, Any]]] = {HPC: [], RAY: []}
    for _ in range(rounds):
        for peer, python in pythons.items():
            records[peer] += children.probe(python, "blocks.py", peer, *args, timeout_s=LIMIT_S).records
    ours, theirs = gathered(records[HPC]), gathered(records[RAY])
    rows = []
    copies_us = {size: statistics.median(ours[f"copy {size}"]) for size in sizes}
    for size, line in lines(copies_us):
        cells = row(line, ours, theirs)
        copy = cell(summary(ours[f"copy {size}"]))
        rate = f"{size / max(1e-3, min(ours[line.key])) / 1e3:.3g} GB/s" if "item" in line.what else NOTHING
        rows.append([*cells[:4], rate, copy, *cells[4:]])
    bare = ", ".join(f"{who} {number(min(of['bare']))}" for who, of in (("hpc", ours), ("Ray", theirs)) if of)
    note = (
        f"Microseconds, the median of {rounds} rounds in turns (lowest…highest); one worker. A bare task returns None "
        f"and takes {bare} µs in the stream. Returned: eight tasks are outstanding, their values stay in the store. "
        "Items: pairs of a block and a small value that is read. Copy: as many bytes between two arrays that were used "
        "before. Tables have 8 columns of floats."
    )
    head = ["what", "hpc", "Ray", "hpc better by", "hpc's rate", "copy", "target", "reached"]
    return table("Blocks between tasks", note + said, head, rows)
