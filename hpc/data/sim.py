"""``python -m hpc.data.sim --seeds 0:1000``: the streaming executor under virtual time, with deaths and delays."""

from __future__ import annotations

import argparse
import sys
import traceback

from hpc.data.exec.sim import World


def main(words: list[str] | None = None) -> int:
    """Run the seeds. Returns 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m hpc.data.sim", description=__doc__)
    parser.add_argument("--seeds", default="0:100", help="from:until, or one")
    args = parser.parse_args(words)
    first, _, last = args.seeds.partition(":")
    seeds = range(int(first), int(last or int(first) + 1))
    bad = deaths = rows = nodes = again = awaited = 0
    excess = 0
    for seed in seeds:
        world = World(seed)
        try:
            world.run()
        except Exception:
            bad += 1
            print(f"seed {seed}:", file=sys.stderr)
            traceback.print_exc(limit=-4)
        deaths += world.deaths
        nodes += world.node_deaths
        again += world.made_again
        awaited += world.awaited
        rows += len(world.got)
        excess = max(excess, world.excess)
    print(
        f"{len(seeds)} seeds, {bad} bad; {rows:,} rows, {deaths:,} deaths, {nodes:,} of nodes, {again:,} parts made "
        f"again, {awaited:,} blocks lost before they were read, {excess} B above the budget and a block each"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
