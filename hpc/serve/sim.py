"""``python -m hpc.serve.sim --seeds 0:1000``: the control plane and routers under virtual time, with deaths."""

from __future__ import annotations

import argparse
import sys
import traceback

from hpc.serve.control.world import World


def main(words: list[str] | None = None) -> int:
    """Run the seeds. Returns 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m hpc.serve.sim", description=__doc__)
    parser.add_argument("--seeds", default="0:100", help="from:until, or one")
    args = parser.parse_args(words)
    first, _, last = args.seeds.partition(":")
    seeds = range(int(first), int(last or int(first) + 1))
    bad = started = deaths = crashes = answered = broken = 0
    for seed in seeds:
        world = World(seed)
        try:
            world.run()
        except Exception:
            bad += 1
            print(f"seed {seed}:", file=sys.stderr)
            traceback.print_exc(limit=-4)
        started += world.started
        deaths += world.deaths
        crashes += world.crashes
        answered += world.answered
        broken += world.broken
    print(
        f"{len(seeds)} seeds, {bad} bad; {started:,} replicas began, {deaths:,} ended, {crashes:,} controllers died; "
        f"{answered:,} requests were answered, {broken:,} broke with their replica"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
