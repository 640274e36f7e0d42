"""python -m bench.cli: measures hpc beside its peers, prints a table, writes JSON, a plot and docs/performance.md."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from bench import page, rl_curves
from bench.children import Children
from bench.metrics import METRICS, PARTS, chosen, parts
from bench.run import CHECKS_OF, Plan, Run

FULL_ROUNDS, QUICK_ROUNDS = 5, 1
FULL_S, QUICK_S = 1.5, 0.3


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.cli", description=__doc__)
    groups = ", ".join((*dict.fromkeys(m.group for m in METRICS), *PARTS))
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="one short round, several figures in one process, fewer nodes and tasks, no Slurm",
    )
    add("--only", nargs="+", default=[], metavar="NAME", help=f"whose name contains this, or groups: {groups}")
    known = "; ".join(f"of {part}: {', '.join(names)}" for part, names in CHECKS_OF.items())
    add("--checks", nargs="+", default=[], metavar="CHECK", help=f"only these ({known})")
    add("--no-peers", action="store_true", help="only hpc")
    add("--rounds", type=int, help=f"default {FULL_ROUNDS}, with --quick {QUICK_ROUNDS}; seeds of rl")
    add("--seconds", type=float, help=f"of each measurement; {FULL_S}, with --quick {QUICK_S}")
    add("--out", type=Path, default=page.ROOT / "bench" / "results", metavar="DIR", help="where the JSON goes")
    docs_help = "write docs/performance.md and docs/plots (default: after a whole run); with --only PART, its table"
    add("--docs", action=argparse.BooleanOptionalAction, default=None, help=docs_help)
    add("--render", type=Path, metavar="FILE", help="measure nothing: show this result; --docs writes it")
    add("--list", action="store_true", help="say what there is")
    args = parser.parse_args()
    try:
        args.metrics, args.parts = chosen(args.only), parts(args.only)
        check(args.checks, args.parts)
    except ValueError as error:
        parser.error(str(error))
    return args


def check(checks: list[str], chosen_parts: list[str]) -> None:
    """Raise ValueError for a check that no chosen part has."""
    known = [name for part in chosen_parts for name in CHECKS_OF.get(part, ())]
    for name in checks:
        if name not in known:
            there = f"but {', '.join(known)}" if known else f"as only {' and '.join(CHECKS_OF)} have some"
            raise ValueError(f"there is no check {name} of {', '.join(chosen_parts) or 'what is chosen'}, {there}")


def main() -> int:
    """Measure, show, keep."""
    args = arguments()
    if args.list:
        print("\n".join(f"{m.name:40} {m.group:8} {m.what}" for m in args.metrics))
        return 0
    whole = not (args.quick or args.only or args.no_peers or args.render)
    if args.render:
        result = json.loads(args.render.read_text())
    else:
        rounds = args.rounds or (QUICK_ROUNDS if args.quick else FULL_ROUNDS)
        seconds = args.seconds or (QUICK_S if args.quick else FULL_S)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a limit of time keeps what was found
        children = Children()
        plan = Plan(args.metrics, rounds, seconds, args.quick, not args.no_peers, args.parts, args.checks, args.rounds)
        run = Run(plan, children)
        try:
            run.find_peers()
            run.measure()
        except KeyboardInterrupt:
            whole = False
            print("bench: interrupted; this is what there is", file=sys.stderr)
        finally:
            children.close()
        result = run.result()
        print(f"bench: wrote {page.write_json(result, args.out)}", file=sys.stderr)
    print(page.terminal(result), flush=True)
    if args.docs or (args.docs is None and whole):
        for text in [*page.write_docs(result), *rl_curves.write_docs(result)]:
            print(f"bench: {text}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
