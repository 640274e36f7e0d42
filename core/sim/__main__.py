"""Replay seeds: ``python -m hpc.core.sim --seed 17 --story``, ``--seeds 0:1000``, or ``--seeds 0:1000 --digest``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from hpc.core.sim.detached import SEEN
from hpc.core.sim.paths import PATHS
from hpc.core.sim.run import run


def main(argv: list[str] | None = None) -> int:
    """The command line; 1 if a seed broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m hpc.core.sim", description="Simulate a cluster, by seed.")
    parser.add_argument("--seed", type=int, default=None, help="one seed")
    parser.add_argument("--seeds", default="0:100", help="a range, A:B")
    parser.add_argument("--story", action="store_true", help="print what happened")
    parser.add_argument("--digest", action="store_true", help="print a hash of all frames, by seed")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--operations", type=int, default=30)
    parser.add_argument("--heads", action="store_true", help="heads die too")
    parser.add_argument("--drains", action="store_true", help="nodes drain before they die")
    given = parser.parse_args(argv)
    first, _, last = given.seeds.partition(":")
    seeds = [given.seed] if given.seed is not None else range(int(first), int(last))
    start = time.perf_counter()
    bad = tasks = deaths = spilled = restored = holds = 0
    reached: Counter[str] = Counter()
    for seed in seeds:
        report = run(seed, nodes=given.nodes, operations=given.operations, heads=given.heads, drains=given.drains)
        tasks += report.tasks
        deaths += report.deaths
        spilled += report.spilled
        restored += report.restored
        holds += report.holds
        reached.update(report.paths.keys())
        if given.story:
            print("\n".join(report.story))
        if given.digest:
            print(f"{seed} {report.frames} {report.digest} {report.virtual_s:.4f}")
        if report.problems:
            bad += 1
            print(f"seed {seed}: " + "; ".join(report.problems[:3]))
    seconds = time.perf_counter() - start
    print(f"{len(seeds)} seeds, {tasks} tasks, {deaths} deaths, {bad} bad, {seconds:.1f} s")
    print(f"{spilled} objects went to disk, {restored} came back; room was kept {holds} times")
    print("seeds that took a path:")
    for path in (*PATHS, *(SEEN if given.heads else ())):
        print(f"{reached[path]:7d}  {path}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
