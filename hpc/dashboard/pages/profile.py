"""Profile: what one process, or all workers, do with their time, as a flame graph."""

from __future__ import annotations

from typing import Any

from hpc.dashboard.pages.face import Answers, Page
from hpc.dashboard.views import Params
from hpc.state import profiles

#: Calls of the table, processes to choose from, and the longest profile.
MOST_CALLS, MOST_CHOICES, MOST_S = 60, 500, 60.0


def view(answers: Answers, params: Params) -> dict[str, Any]:
    """The processes that can be asked."""
    there = [row for row in answers["workers"] if row["state"] in ("LEASED", "IDLE", "DRIVER")]
    names = ("worker_id", "worker_type", "is_actor", "pid", "node_id")
    return {"processes": [{name: row[name] for name in names} for row in there[:MOST_CHOICES]], "total": len(there)}


def begin(params: Params) -> dict[str, Any]:
    """Begin a profile of one process (``worker``), or of all, for ``seconds``."""
    workers = [row["worker_id"] for row in profiles.candidates(params.text("worker"))]
    seconds = params.number("seconds", 5.0, MOST_S)
    silent = profiles.begin(workers, seconds)
    return {"workers": [one for one in workers if one not in silent], "silent": silent, "seconds": seconds}


def _collected(params: Params) -> profiles.Profile:
    workers = [one for one in params.text("workers").split(",") if one][: profiles.MOST_PROCESSES]
    return profiles.collect(workers, params.text("name"))


def result(params: Params) -> dict[str, Any]:
    """What ``workers`` (ids with a comma between) have seen until now; ``name``: of one task or method only."""
    found = _collected(params)
    return {
        "tree": profiles.tree(found.stacks), "calls": profiles.by_call(found.stacks)[:MOST_CALLS],
        "processes": found.processes, "silent": found.silent, "passed_s": found.passed_s, "samples": found.samples,
        "sampler_cpu_s": found.sampler_cpu_s, "is_running": found.is_running,
        "names": sorted({stack[0].partition(" (")[0] for stack in found.stacks}),
    }  # fmt: skip


def speedscope(params: Params) -> dict[str, Any]:
    """The same as a file for speedscope.app."""
    return profiles.speedscope(_collected(params), params.text("name") or "hpc")


MORE = {"result": result, "speedscope": speedscope}
PAGE = Page("profile", "Profile", "0", ("workers",), view, MORE, {"begin": begin})
