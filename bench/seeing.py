"""What metrics cost: tasks with and without them, looked at or not, and a tree of 10,000 nodes: ``--only seeing``.

The three ways are run in turns, and their CPU time is compared too: rates of a machine that others use say little.
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

from bench.children import Children
from bench.parts import table
from bench.table import number

LIMIT_S = 600.0
#: What is run: (in words, arguments, environment).
WAYS = (
    ("no metrics (`HPC_METRICS=0`)", (), {"HPC_METRICS": "0"}),
    ("nobody looks", (), {}),
    ("a page is open", ("watched",), {}),
)
TREES = ((10, 100), (1_000, 100), (10_000, 100))
#: What is wanted of the head with 10,000 nodes.
WANTED = "1 MB/s, 50 ms, 50 MB"


def seeing(children: Children, quick: bool) -> dict[str, Any]:
    """Rates of tasks in turns, and the trees."""
    seconds, rounds = ("1", 1) if quick else ("5", 7)
    found: dict[str, list[dict[str, float]]] = {way: [] for way, _, _ in WAYS}
    for turn in range(rounds):
        for way, args, env in WAYS if turn % 2 == 0 else WAYS[::-1]:
            found[way] += children.probe(
                sys.executable, "seeing.py", "tasks", seconds, *args, timeout_s=LIMIT_S, env=env
            ).records
    rows = []
    for way, records in found.items():
        rate, cpu = (statistics.median(one[key] for one in records) for key in ("rate", "cpu_us"))
        base = found[WAYS[0][0]]
        more = statistics.median(one["cpu_us"] / bare["cpu_us"] for one, bare in zip(records, base)) - 1
        less = statistics.median(one["rate"] / bare["rate"] for one, bare in zip(records, base)) - 1
        rows.append([f"tasks, 1000 at a time: {way}", f"{number(rate)}/s ({less:+.1%})", f"{cpu:.2f} us ({more:+.1%})"])
    for nodes, workers in TREES[: 2 if quick else 3]:
        (one,) = children.probe(
            sys.executable, "seeing.py", "tree", str(nodes), str(workers), timeout_s=LIMIT_S
        ).records
        rows.append([
            f"{nodes:,} nodes of {workers} workers, looked at: the head",
            f"{one['head_bytes_s'] / 1e3:.1f} kB/s, {one['tick_ms']:.1f} ms a packet (at most {one['worst_ms']:.1f})",
            f"{one['rss_mb']:.0f} MB; the largest packet of any node {one['largest'] / 1e3:.1f} kB",
        ])  # fmt: skip
    note = (
        f"Tasks: the median of {rounds} rounds, the three ways in turns; in brackets the median of the differences to "
        "the first in the same round. CPU is that of all processes of the session for each task. A page: another "
        "process that asks for everything every 2 s. The tree: the parts of raylets and of the head as they are; the "
        f"first node's packet comes every 2 s. Wanted with 10,000 nodes: less than {WANTED}."
    )
    return table("Metrics", note, ["what", "rate", "cost"], rows)
