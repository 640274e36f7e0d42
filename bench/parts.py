"""The parts of a run that are tables of their own: placement and spin, load, many raylets, scale.

Each gives plain data (title, note, head, rows), which is kept in the result and shown as it is.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from typing import Any

from bench import spaces
from bench.children import Children
from bench.table import NOTHING, number

LIMIT_S = 240.0
SPINS = ("50", "0")
KINDS = ("task sync", "task async", "call sync", "call async")


class Skipped(Exception):
    """This part cannot be measured here; the text says why."""


class Stopped(KeyboardInterrupt):
    """A part was interrupted; it has these tables so far."""

    def __init__(self, tables: list[dict[str, Any]]) -> None:
        super().__init__()
        self.tables = tables


def table(title: str, note: str, head: list[str], rows: list[list[str]]) -> dict[str, Any]:
    """A part's data."""
    return {"title": title, "note": note, "head": head, "rows": rows}


def _load(children: Children, *args: str, env: dict[str, str] | None = None) -> list[dict[str, Any]]:
    probe = spaces.ROOT / "bench" / "probes" / "load.py"
    return children.run([sys.executable, str(probe), *args], LIMIT_S, env).records


def placement(children: Children, quick: bool) -> dict[str, Any]:
    """Driver and worker free, on one core, on two; two spin settings."""
    places = ("free", "same", "split") if len(os.sched_getaffinity(0)) > 1 else ("same",)
    seconds, rounds = ("0.2", 1) if quick else ("1", 5)
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for how in places:
            for spin in SPINS:
                found.setdefault((how, spin), []).extend(
                    _load(children, "placed", how, seconds, env={"HPC_SPIN_US": spin})
                )
    rows = []
    for (how, spin), records in found.items():
        cells = [_middle([r[kind] for r in records]) for kind in KINDS]
        rows.append([how, spin, *cells])
    note = (
        "Per second, one worker. free: wherever the kernel puts driver and worker; same: both on one core; split: on "
        "two. Spin is `HPC_SPIN_US` of driver and worker: how long a waiting thread looks again before it sleeps."
    )
    return table("Placement and spin", note, ["driver and worker", "spin, µs", *KINDS], rows)


def _middle(values: list[float]) -> str:
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}…{number(max(values))})"


def load(children: Children, quick: bool) -> dict[str, Any]:
    """Rates with few and many workers, and with many tasks outstanding."""
    count = 200_000 if quick else 1_000_000
    rows = []
    for workers in (1, 64):
        (record,) = _load(children, "workers", str(workers), "0.5" if quick else "2")
        rates = [number(record["sync"]), number(record["async"])]
        rows.append([f"{workers} CPUs on the node ({record['workers']} workers seen)", *rates, "–"])
    (record,) = _load(children, "outstanding", str(count))
    memory = (
        f"{number(record['before_mb'])} before, {number(record['peak_mb'])} at most "
        f"({number(record['bytes_each'])} bytes a task), {number(record['after_mb'])} after"
    )
    rows.append([f"{count:,} tasks outstanding", "–", number(record["rate"]), memory])
    note = "Tasks per second; the driver's resident memory. Outstanding: all are submitted before the first get."
    return table("Many workers, many tasks", note, ["load", "sync", "async", "memory of the driver, MB"], rows)


def fleet(children: Children, quick: bool) -> dict[str, Any]:
    """One driver, many real raylets in network namespaces."""
    why = spaces.why_not()
    if why:
        raise Skipped(why)
    nodes, tasks = (16, 2_000) if quick else (64, 10_000)
    probe = spaces.ROOT / "bench" / "probes" / "fleet.py"
    records = children.run([sys.executable, str(probe), str(nodes), str(tasks)], LIMIT_S).records
    rows = []
    for r in records:
        share = f"{r['nodes_used']} of {nodes} ({r['fewest']}…{r['most']} tasks)"
        cpu = [f"{r[key]:.1%}" for key in ("head_share", "driver_share", "raylets_share")]
        rows.append([r["how"], f"{r['took_s']:.2f}", number(r["rate"]), share, *cpu])
    note = (
        f"One driver, {nodes} raylets, each in a network namespace of this machine with its own zygote and workers, "
        f"ready after {records[0]['ready_s']:.1f} s; {tasks:,} no-op tasks that say where they ran. CPU: share of one "
        f"core while they ran; all raylets together. The head had {number(records[0]['head_mb'])} MB."
    )
    head = ["how spread", "s", "tasks/s", "nodes used", "head CPU", "driver CPU", "raylets CPU"]
    return table(f"{nodes} raylets", note, head, rows)


def scale(children: Children, quick: bool) -> dict[str, Any]:
    """The head's machine with up to 10,000 nodes."""
    del children
    from bench import scale as module

    return module.measure(quick, draw=not quick)


#: The steps of bench/probes/steps.py in the order in which a task meets them.
STEPS = {
    "driver: remote": "driver: `remote()`: arguments, id, record, queue",
    "driver: own": "driver: `remote()`, `get()` and the poll's system calls",
    "driver: encode": "driver: encode the frame",
    "driver: write": "driver: write it (system call)",
    "worker: read": "worker: read it (system call)",
    "worker: decode": "worker: decode",
    "worker: take": "worker: queue",
    "worker: own": "worker: arguments, the function, its result, what is remembered of it; the poll",
    "worker: encode": "worker: encode the reply",
    "worker: write": "worker: write it (system call)",
    "driver: read": "driver: read it (system call)",
    "driver: decode": "driver: decode",
    "driver: take": "driver: the owner's tables; the next task for the worker",
    "driver: get": "driver: `get()`: the values, and the poll",
    "took": "from the first to the last, on the clock",
}


def steps(children: Children, quick: bool) -> dict[str, Any]:
    """The CPU time of each step of a task."""
    (found,) = children.probe(sys.executable, "steps.py", timeout_s=LIMIT_S).records
    rows = [
        [text, *(f"{spent[step]:.2f}" if step in spent else NOTHING for spent in found.values())]
        for step, text in STEPS.items()
    ]
    note = (
        "CPU time in µs for each task or call of an actor, one worker: 1,000 and then all results, or one by one. The "
        "least of 39 turns. Nobody spins here, so calls one by one take longer than in the table above."
    )
    return table("What each step costs", note, ["step", *found], rows)


def counts(children: Children, quick: bool) -> dict[str, Any]:
    """What a task costs as counts, which the test suite bounds."""
    (found,) = children.probe(sys.executable, "counts.py", timeout_s=LIMIT_S).records
    kinds = list(dict.fromkeys(what for counted in found.values() for what in counted))
    rows = [[what, *(f"{c[what]:.3g}" if what in c else NOTHING for c in found.values())] for what in kinds]
    note = (
        "For each task or call, with one worker; what spinning does is left out: calls of Python and C functions "
        "and bytecode instructions of the main thread; frames of the driver's sockets, and those of them to and from "
        "the raylet; times that a process went to sleep; blocks of memory that a task in flight holds, and that stay. "
        "`tests/runtime/test_costs.py` fails when one of them grows."
    )
    return table("Counts for each task", note, ["count", *found], rows)


PARTS: dict[str, Callable[[Children, bool], dict[str, Any]]] = {
    "counts": counts,
    "steps": steps,
    "placement": placement,
    "load": load,
    "fleet": fleet,
    "scale": scale,
}
