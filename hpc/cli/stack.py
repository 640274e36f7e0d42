"""`hpc stack`: where the processes are, thread by thread."""

from __future__ import annotations

from typing import Any

from hpc.cli.look import look


def run(words: list[str]) -> int:
    """Print it; returns the exit code."""
    return look(words, _stack)


def _stack(given: dict[str, Any], rest: list[str]) -> int:
    from hpc.state import gather

    found = gather.from_processes("stack", timeout_s=5.0)
    for row in sorted(found.rows, key=lambda row: str(row["answered_by"])):
        if not rest or row["answered_by"] in rest:
            print(f"==== process {row['answered_by']}, pid {row['pid']}\n{row['text']}")
    for one in found.silent:
        print(f"==== process {one} did not answer: it is in native code that holds the interpreter's lock, or stopped")
    return 0
