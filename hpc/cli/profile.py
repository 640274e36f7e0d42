"""`hpc profile [WORKER ...]`: what processes of a session do with their time, sampled without ptrace."""

from __future__ import annotations

import json
from typing import Any

from hpc.cli.files import writing
from hpc.cli.look import look, show_rows
from hpc.cli.words import ADDRESS
from hpc.settings import errors
from hpc.settings.errors import CliError
from hpc.settings.options import Option

USAGE = "hpc profile [WORKER ...] [options]     which calls take the time of workers (of all, where none is named)"
TABLE = (
    ADDRESS,
    Option("seconds", ("--seconds",), "count", "how long to look (5)", "", metavar="N"),
    Option("task", ("--task",), "text", "only what this task or method does, in all workers", "", metavar="NAME"),
    Option("output", ("-o", "--output"), "text", "write it for speedscope.app, too", "", metavar="FILE"),
)
#: Calls that are printed.
SHOWN = 25


def run(words: list[str]) -> int:
    """Print it; returns the exit code."""
    return look(words, TABLE, _profile)


def _profile(given: dict[str, Any], rest: list[str]) -> int:
    from hpc.state import profiles

    if given.get("output"):
        with writing(given["output"], "-o FILE"), open(given["output"], "a"):
            pass  # now: the profile would be lost
    try:
        named = [row["worker_id"] for worker in rest for row in profiles.candidates(worker)]
    except ValueError as error:
        raise CliError("USAGE", str(error), fix="hpc list workers") from None
    workers = named or [row["worker_id"] for row in profiles.candidates()]
    found = profiles.take(workers, given.get("seconds") or 5, given.get("task") or "")
    whole = sum(cpu_s for _, cpu_s in found.stacks.values())
    print(f"{len(found.processes)} processes for {found.passed_s:.1f} s, {found.samples} samples")
    print(f"{whole:.2f} s on CPUs in their code; the looking took {found.sampler_cpu_s:.2f} s")
    rows = [
        {
            "cpu": f"{100 * one['own_cpu_s'] / whole:.1f} %" if whole else "",
            "cpu_s": f"{one['own_cpu_s']:.2f}",
            "passed_s": f"{one['own_passed_s']:.2f}",
            "cpu_s_with_calls": f"{one['all_cpu_s']:.2f}",
            "call": one["name"],
        }
        for one in profiles.by_call(found.stacks)[:SHOWN]
    ]
    show_rows(rows, ("cpu", "cpu_s", "passed_s", "cpu_s_with_calls", "call"))
    for one in found.silent:
        errors.note(f"process {one} did not answer: it is in native code that holds the interpreter's lock, or stopped")
    if given.get("output"):
        with writing(given["output"], "-o FILE"), open(given["output"], "w") as file:
            json.dump(profiles.speedscope(found, given.get("task") or "hpc"), file)
        errors.note(f"written to {given['output']}: open it at speedscope.app, or with a copy of it")
    return 0
