"""Searches: how fast trials and reports go by beside Ray Tune, experiments of many trials, searches beside Optuna.

Each line has its target, and whether it is reached. Rejected: as many trials for Ray as for hpc (they would take an
hour, and more of them make no trial faster).
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.children import Children
from bench.metrics import HPC, RAY, Target
from bench.parts import table
from bench.peers import PeerError, find
from bench.stats import ratio, summary
from bench.table import NOTHING, cell, number

LIMIT_S = 200.0
OPTUNA = "optuna"
#: Arguments of the probe: trials with fresh actors, with reused ones, reports of each trial with loggers and without,
#: and of one alone.
SIZES = {HPC: ("300", "2000", "200", "500", "1000"), RAY: ("8", "32", "100", "100", "200")}
QUICK = {HPC: ("50", "500", "50", "100", "200"), RAY: ("4", "8", "25", "25", "50")}
SAMPLERS = {"tpe": "TPE", "cmaes": "CMA-ES"}
SEARCHED = 60  # trials of a search


@dataclass(frozen=True)
class Line:
    """A line of the table. key: of the probe's records; theirs: where the peer's is; as_good: no worse than the worst
    quarter of the peer's values."""

    what: str
    key: str
    targets: tuple[Target, ...] = ()
    peer: str = ""
    higher: bool = False
    as_good: bool = False


TEN = Target(times=10.0)
RATES = (
    Line("no-op trials/s, fresh actors", "fresh", (Target(at_least=100), TEN), RAY, True),
    Line("no-op trials/s, `reuse_actors`", "reused", (Target(at_least=500), TEN), RAY, True),
    Line("reports/s, all loggers", "logged", (Target(at_least=5_000),), RAY, True),
    Line("reports/s, journal only", "plain", (Target(at_least=20_000),), RAY, True),
    Line("a report judged by ASHA, one trial alone, µs", "alone_us", (Target(at_most=500),), RAY),
    Line("driver's CPU time for a fresh trial, µs", "fresh_cpu_us", (), RAY),
    Line("the same, actors reused", "reused_cpu_us", (), RAY),
    Line("driver's CPU time for a report, all loggers, µs", "logged_cpu_us", (), RAY),
    Line("the same, journal only", "plain_cpu_us", (), RAY),
    Line("files and directories for each trial, all loggers", "logged_files", (), RAY),
)
MANY = (
    Line("{trials}: after kill -9, s to the first trial that runs", "first_s", (Target(at_most=3),)),
    Line("{trials}: trials that ran again or anew", "ran"),
    Line("{trials}: files", "files", (Target(at_most=10),)),
    Line("{trials}: driver's memory for each that has ended, bytes", "bytes_each", (Target(at_most=10_000),)),
    Line("{trials}: trials/s with their reports", "rate"),
)
SEARCH = (
    Line("{sampler}: best value of {count} trials", "best", (), OPTUNA, as_good=True),
    Line("{sampler}: s for {count} trials", "s", (), OPTUNA),
    Line("{sampler}: the driver's share of asking", "share", (Target(at_most=0.05),)),
)

Found = Mapping[str, Sequence[float]]


def reached(line: Line, ours: Sequence[float], theirs: Sequence[float]) -> bool | None:
    """Whether a line's targets are reached; None where it has none, or the peer was not measured."""
    middle = statistics.median(ours)
    verdicts: list[bool | None] = []
    for target in line.targets:
        if target.times is not None:
            if not theirs:
                verdicts.append(None)
                continue
            verdicts.append(ratio(middle, statistics.median(theirs), line.higher) >= target.times)
        elif target.at_least is not None:
            verdicts.append(middle >= target.at_least)
        elif target.at_most is not None:
            verdicts.append(middle <= target.at_most)
    if line.as_good:
        verdicts.append(middle <= statistics.quantiles(theirs, n=4)[2] if len(theirs) > 1 else None)
    if False in verdicts:
        return False
    return None if not verdicts or None in verdicts else True


def row(line: Line, ours: Found, theirs: Found, **names: Any) -> list[str]:
    """A line as cells: what, hpc, the peer, hpc / peer, target, reached."""
    mine, other = ours[line.key], theirs.get(line.key, ()) if line.peer else ()
    times = NOTHING
    if other and not line.as_good:
        times = f"{number(ratio(statistics.median(mine), statistics.median(other), line.higher))}×"
    targets = [target.text() for target in line.targets] + (["as good as Optuna alone"] if line.as_good else [])
    found = reached(line, mine, other)
    verdict = {True: "yes", False: "NO", None: "not measured" if targets else NOTHING}[found]
    return [line.what.format(**names), cell(summary(mine)), cell(summary(other)), times, ", ".join(targets) or NOTHING,
            verdict]  # fmt: skip


def gathered(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The values of each key over all records; a list among them counts as so many values."""
    out: dict[str, list[float]] = {}
    for record in records:
        for key, value in record.items():
            out.setdefault(key, []).extend(value if isinstance(value, list) else [value])
    return out


def ray_python() -> str:
    """An interpreter with Ray Tune; PeerError says why there is none."""
    python = find(RAY).python
    if subprocess.run([python, "-c", "import ray.tune"], capture_output=True, timeout=120).returncode != 0:
        raise PeerError("Ray Tune cannot be imported there: it needs ray[tune]")
    return python


def tune(children: Children, quick: bool) -> dict[str, Any]:
    """All lines: rates beside Ray, an experiment of many trials, searches beside Optuna."""

    def probe(python: str, *args: str) -> dict[str, Any]:
        record: dict[str, Any]
        with tempfile.TemporaryDirectory(prefix="tune-", dir=children.folder) as folder:
            (record,) = children.probe(python, "tune.py", *args, folder, timeout_s=LIMIT_S).records
        return record

    pythons, said = {HPC: sys.executable}, ""
    try:
        pythons[RAY] = ray_python()
    except PeerError as error:
        said = f" Ray: {error}."
    rounds, sizes = (1, QUICK) if quick else (3, SIZES)
    records: dict[str, list[dict[str, Any]]] = {HPC: [], RAY: []}
    for _ in range(rounds):
        for peer, python in pythons.items():
            records[peer].append(probe(python, "rates", peer, *sizes[peer]))
    ours, theirs = gathered(records[HPC]), gathered(records[RAY])
    rows = [row(line, ours, theirs) for line in RATES]
    count, each = (1_000, 10) if quick else (10_000, 10)
    found = gathered([probe(sys.executable, "many", str(count), str(each))])
    rows += [row(line, found, {}, trials=f"{count:,} trials, {count * each:,} results") for line in MANY]
    if importlib.util.find_spec("optuna") is None or importlib.util.find_spec("cmaes") is None:
        said += " No searches: they need Optuna and cmaes (pip install 'hpc[tune]')."
    else:
        rows += _searches(probe, rounds, 2 if quick else 4)
    note = (
        f"The median of {rounds} rounds in turns (lowest…highest); as many trials at a time as cores. Ray has "
        "fewer trials, and what is shown is a rate or for each. No-op trials are without loggers. The "
        f"experiment of many trials has a driver that is killed when it has nearly ended; searches have {SEARCHED} "
        "trials of 20 ms on a function whose least value is 0, the same seeds for both. As good: the median is no "
        "worse than the worst quarter of Optuna's. Share of asking: of the driver's loop."
    )
    return table("Tune", note + said, ["what", "hpc", "Ray, Optuna", "hpc better by", "target", "reached"], rows)


def _searches(probe: Any, rounds: int, seeds: int) -> list[list[str]]:
    rows = []
    for sampler, title in SAMPLERS.items():
        found: dict[str, list[dict[str, Any]]] = {HPC: [], OPTUNA: []}
        for turn in range(rounds):
            for who in found:
                args = ("search", who, sampler, str(SEARCHED), str(turn * seeds), str(seeds))
                found[who].append(probe(sys.executable, *args))
        ours, theirs = gathered(found[HPC]), gathered(found[OPTUNA])
        rows += [row(line, ours, theirs, sampler=title, count=SEARCHED) for line in SEARCH]
    return rows
