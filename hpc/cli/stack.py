"""`hpc stack`: where the processes are, thread by thread."""

from __future__ import annotations

from typing import Any

from hpc.cli.look import look
from hpc.cli.words import ADDRESS
from hpc.settings.options import Option

USAGE = "hpc stack [WORKER ...] [options]     where the processes are, thread by thread"
TABLE = (
    ADDRESS,
    Option("all", ("-a", "--all"), "switch", "the runtime's own threads and calls too", "", default=False),
)


def run(words: list[str]) -> int:
    """Print it; returns the exit code."""
    return look(words, TABLE, _stack)


def _stack(given: dict[str, Any], rest: list[str]) -> int:
    from hpc.state import gather

    found = gather.from_processes("stack", timeout_s=5.0)
    idle = []
    for row in sorted(found.rows, key=lambda row: str(row["answered_by"])):
        if rest and row["answered_by"] not in rest:
            continue
        text = row["whole" if given.get("all") else "text"]
        if text:
            print(f"==== process {row['answered_by']}, pid {row['pid']}\n{text}")
        else:
            idle.append(row["answered_by"])
    if idle:
        print(f"==== idle, no code of the user's: {', '.join(idle)} (--all shows the runtime's own)")
    for one in found.silent:
        print(f"==== process {one} did not answer: it is in native code that holds the interpreter's lock, or stopped")
    return 0
