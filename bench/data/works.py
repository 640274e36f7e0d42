"""Datasets: nine works under hpc.data, Ray Data, Dask, Polars, DuckDB, Daft, HF datasets and torch, and what bare
processes need for them.

Peers take turns with hpc in each round, so that a slow minute of the machine is everybody's. A peer that cannot be
installed, or cannot do a work, is named. Rejected: one table for each work (their lines have the same columns).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.children import Children, MeasureError
from bench.machine import compile_ours
from bench.metrics import HPC, RAY
from bench.parts import table
from bench.peers import OTHERS_DATA, RAY_DATA, PeerError, find
from bench.table import NOTHING, number

LIMIT_S = 280.0
PROBE = str(Path("data") / "main.py")
LIMIT = "limit"
#: The peers that share an environment, each with the works that it takes part in.
SHARING: dict[str, tuple[str, ...]] = {
    "dask": ("scan", "map", "exchange", "query"),
    "polars": ("scan", "exchange", "query"),
    "duckdb": ("query",),
    "daft": ("scan", "map", "images", "small", "exchange", "query"),
    "datasets": ("map", "iterate", "images"),
    "torch": ("iterate", "images", "small"),
    "webdataset": ("images",),
}
WORKS = ("scan", "map", "iterate", "images", "small", "exchange", "spill", "query", "control")
NO_LIMIT = ("query", "control")


@dataclass(frozen=True)
class Line:
    """A line of the table: the seconds of a part of a work, or another figure of it.

    limit: the part of the bare processes beside it, times how often it is allowed (4 passes of memory, 3 bare tasks);
    of_limit: the share of the limit's speed that is wanted. ray: how many times faster than Ray. beat: the peers, and
    how many times the best one's seconds are allowed. at_most: a bound of the figure itself. of: the bare part is one
    of hpc's own."""

    what: str
    work: str
    part: str
    limit: str = ""
    passes: float = 1.0
    of_limit: float = 0.0
    ray: float = 0.0
    beat: tuple[str, ...] = ()
    allowed: float = 1.0
    at_most: float = 0.0
    own: bool = False
    each: str = ""


SQL = ("polars", "duckdb")
LINES = (
    Line("1 scan: 1 GB of parquet to the driver", "scan", "scan", "scan_copy", of_limit=0.8, ray=3),
    Line("2 map: three functions over 1 GB", "map", "map", "map_copy", of_limit=0.7, ray=3),
    Line("3a iterate: 2 GB of images as tensors", "iterate", "images", "images", of_limit=0.8),
    Line("3b iterate: a batch of 256 rows, µs", "iterate", "rows", at_most=20, each="batches"),
    Line("4 images: tar shards", "images", "tar", "pil", of_limit=0.9, beat=("torch", "webdataset")),
    Line("4 images: single files", "images", "files", "pil", of_limit=0.9, beat=("torch",)),
    Line("4 images: parquet", "images", "parquet", "pil", of_limit=0.9, beat=("datasets",)),
    Line("4 images: single files, by read_images", "images", "arrays", "pil"),
    Line("5 small files: first batch", "small", "first", at_most=0.3),
    Line("5 small files: all", "small", "all", "all", passes=1.5, of_limit=1),
    Line("6 exchange: random_shuffle", "exchange", "shuffle", "pass", passes=4, of_limit=1, ray=3),
    Line("6 exchange: sort", "exchange", "sort", "pass", ray=3),
    Line("6 exchange: repartition by keys", "exchange", "keys", "pass", ray=3),
    Line("6 exchange: sort of files, 256 MB of store", "spill", "sort", "disk", passes=2, of_limit=1, ray=3),
    Line("6 exchange: the same, beside the system's cache", "spill", "sort", "cache"),
    Line("7 query: group-by, 10 keys", "query", "few", ray=4, beat=SQL, allowed=2.5),
    Line("7 query: group-by, 1 M keys", "query", "many", ray=4, beat=SQL, allowed=2.5),
    Line("7 query: join 10 M with 1 M", "query", "join", ray=4, beat=SQL, allowed=2.5),
    Line("7 query: TPC-H 1", "query", "q1", ray=4, beat=SQL, allowed=2.5),
    Line("7 query: TPC-H 3", "query", "q3", ray=4, beat=SQL, allowed=2.5),
    Line("8 control: 10,000 blocks of a row", "control", "blocks", "bare", passes=3, of_limit=1, own=True),
    Line("8 control: take(1) of 10,000 files", "control", "take", at_most=0.1),
    Line("8 control: share of a step's time stalled", "control", "stalled", at_most=0.01),
)


@dataclass
class Found:
    """The values of each part of each work by peer, one for each round; and who could not."""

    values: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, work: str, peer: str, record: Mapping[str, Any]) -> None:
        for part, value in record.items():
            value *= record.get("slower", record.get(f"{part}_slower", 1))
            self.values.setdefault((work, part), {}).setdefault(peer, []).append(value)

    def middle(self, work: str, part: str, peer: str) -> float | None:
        found = self.values.get((work, part), {}).get(peer)
        return statistics.median(found) if found else None


def data(children: Children, quick: bool, rounds: int = 3) -> dict[str, Any]:
    """All works in turns. An interrupt ends the measuring: the table has what was found until then."""
    compile_ours()
    size, rounds = ("quick", 1) if quick else ("full", rounds)
    pythons, said = interpreters()
    found = Found()
    try:
        for work in WORKS:
            measure(children, found, work, pythons, size, rounds)
    except KeyboardInterrupt:
        said += f" Interrupted in {work}: the rest was not measured."
    rows = [row(line, found) for line in LINES]
    note = (
        f"Seconds, the median of {rounds} rounds in turns, two CPUs for everybody, files in the page cache, sessions "
        "started and warmed, torch imported, and bytecode of hpc made, before. Limit: the same by two bare processes "
        "without a library around (parquet decoded and copied once; the functions, and all bytes copied before and "
        "after; PIL, and the batches made of 64; open, read, close; copies of memory; as many bytes written to disk, "
        "flushed, dropped from the cache and read, or the same without that; bare tasks). HF datasets gets an eighth "
        "of the rows of 2 and 3, and its seconds are multiplied. The lines of 4 read JPEG as bytes "
        "that the function decodes; read_images decodes before it, and that line has no target. MB: "
        "the largest proportional set size of all processes, of hpc and Ray, in a run of its own. "
    )
    failed = "".join(f" {who}: {why}." for who, why in found.failed.items())
    head = ["work", "hpc", "limit", "limit / hpc", "Ray", "Ray / hpc", "others", "MB", "target", "reached"]
    return table("Data", note + said + failed, head, rows)


def measure(children: Children, found: Found, work: str, pythons: Mapping[str, str], size: str, rounds: int) -> None:
    """One work by all who take part, in turns, and then the memory of two of them."""
    folder = f"{children.folder}/data-{work}"
    try:
        children.probe(sys.executable, PROBE, "prepare", work, folder, size, timeout_s=LIMIT_S)
    except MeasureError as error:
        found.failed[work] = str(error)[:120]
        return
    for turn in range(rounds):
        for peer, python in pythons.items():
            if takes_part(work, peer) and f"{work} {peer}" not in found.failed:
                measured(children, found, work, peer, python, folder, size, memory=False)
        if turn == rounds - 1 and size != "quick":
            for peer in (HPC, RAY):
                if peer in pythons and f"{work} {peer}" not in found.failed:
                    measured(children, found, work, peer, pythons[peer], folder, size, memory=True)


def interpreters() -> tuple[dict[str, str], str]:
    """Where each peer runs; and a sentence on those that cannot."""
    pythons, said = {LIMIT: sys.executable, HPC: sys.executable}, ""
    for name in (RAY_DATA, OTHERS_DATA):
        try:
            python = find(name).python
        except PeerError as error:
            said += f" {name}: not measured: {error}."
            continue
        pythons |= {RAY: python} if name == RAY_DATA else dict.fromkeys(SHARING, python)
    return pythons, said


def takes_part(work: str, peer: str) -> bool:
    if peer == LIMIT:
        return work not in NO_LIMIT
    return work in SHARING.get(peer, WORKS)


def measured(
    children: Children, found: Found, work: str, peer: str, python: str, folder: str, size: str, *, memory: bool
) -> None:
    """One run of a peer; what fails is kept as words."""
    more = ("memory",) if memory else ()
    try:
        (record,) = children.probe(python, PROBE, "run", work, peer, folder, size, *more, timeout_s=LIMIT_S).records
    except MeasureError as error:
        found.failed[f"{work} {peer}"] = str(error)[:120]
        progress(f"{work} {peer}: failed: {error}")
        return
    progress(f"{work} {peer}: " + ", ".join(f"{part} {value:.4g}" for part, value in sorted(record.items())))
    if memory:
        record = {part: value for part, value in record.items() if part.endswith("_mb")}
    found.add(work, peer, record)


def progress(text: str) -> None:
    """A line for whoever waits."""
    print(f"    {text[:300]}", file=sys.stderr, flush=True)


def row(line: Line, found: Found) -> list[str]:
    """A line as cells."""
    ours = shown(line, found, HPC)
    limit = found.middle(line.work, line.limit, HPC if line.own else LIMIT) if line.limit else None
    theirs = shown(line, found, RAY)
    peers = {peer: shown(line, found, peer) for peer in SHARING}
    others = {peer: value for peer, value in peers.items() if value is not None}
    memory = [found.middle(line.work, f"{line.part}_mb", peer) for peer in (HPC, RAY)]
    wanted = target(line)
    verdict = {True: "yes", False: "NO", None: "not measured"}[reached(line, ours, limit, theirs, others)]
    return [
        line.what,
        cell(ours),
        cell(None if limit is None else limit * line.passes),
        quotient(None if limit is None else limit * line.passes, ours),
        cell(theirs),
        quotient(theirs, ours),
        ", ".join(f"{peer} {number(value)}" for peer, value in others.items()) or NOTHING,
        " / ".join(cell(value) for value in memory) if any(memory) else NOTHING,
        wanted or NOTHING,
        verdict if wanted else NOTHING,
    ]


def shown(line: Line, found: Found, peer: str) -> float | None:
    """The figure of a line: seconds, or µs for each batch."""
    value = found.middle(line.work, line.part, peer)
    if value is None or not line.each:
        return value
    count = found.middle(line.work, line.each, peer)
    return value / count * 1e6 if count else None


def reached(
    line: Line, ours: float | None, limit: float | None, theirs: float | None, others: Mapping[str, float]
) -> bool | None:
    """Whether all that a line wants is so; None where something for it is missing."""
    if ours is None:
        return None
    verdicts: list[bool | None] = []
    if line.of_limit:
        verdicts.append(None if limit is None else ours * line.of_limit <= limit * line.passes)
    if line.ray:
        verdicts.append(None if theirs is None else theirs >= line.ray * ours)
    if line.beat:
        best = [others[peer] for peer in line.beat if peer in others]
        verdicts.append(ours <= line.allowed * min(best) if best else None)
    if line.at_most:
        verdicts.append(ours <= line.at_most)
    if False in verdicts:
        return False
    return None if None in verdicts or not verdicts else True


def target(line: Line) -> str:
    """What is wanted, in words."""
    said = []
    if line.of_limit:
        passes = "" if line.passes == 1 else f" of {line.passes:g} of it"
        said.append(f"≥ {line.of_limit:g} of the limit{passes}")
    if line.ray:
        said.append(f"≥ {line.ray:g}× Ray")
    if line.beat:
        said.append(f"≤ {line.allowed:g}× the best of {', '.join(line.beat)}")
    if line.at_most:
        said.append(f"≤ {line.at_most:g}")
    return ", ".join(said)


def cell(value: float | None) -> str:
    return NOTHING if value is None else number(value)


def quotient(theirs: float | None, ours: float | None) -> str:
    return NOTHING if theirs is None or not ours else f"{number(theirs / ours)}×"
