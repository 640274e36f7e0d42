"""Profiles of many processes at a time: begun and gathered by questions, put together, and as a tree or a file.

Every worker samples its own stacks (core/owner/shell/sampler). The outermost call is the task's function, so stacks of
all workers put together are the profile of a kind of task, wherever it ran.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hpc.api.connection import ensure_client
from hpc.state import gather
from hpc.state.gather import Row

#: Processes that are asked at a time, the samples a second, and how long one may take to answer.
MOST_PROCESSES, HZ, TIMEOUT_S = 500, 100.0, 5.0
#: Below this share of the whole a call is left out of a tree, and counts for its caller alone.
LEAST_SHARE = 0.001


class Profile(NamedTuple):
    """What some processes did: seconds that passed and seconds on a CPU, by stack (calls, the outermost first).
    ``sampler_cpu_s``: what the looking cost."""

    stacks: dict[tuple[str, ...], tuple[float, float]]
    processes: list[str]
    silent: list[str]
    passed_s: float
    samples: int
    sampler_cpu_s: float
    is_running: bool


def candidates(worker: str = "") -> list[Row]:
    """The workers and drivers that can be asked, without this process, or the one that is named. Raises ValueError
    where it is not there."""
    rows = [row for row in gather.from_raylets("workers").rows if row["state"] != "STARTING"]
    rows = [row for row in rows if row["worker_id"] != str(ensure_client().addr)]
    if worker:
        rows = [row for row in rows if row["worker_id"] == worker]
        if not rows:
            raise ValueError(f"there is no process {worker}: hpc list workers names those that there are")
    return rows[:MOST_PROCESSES]


def begin(workers: Sequence[str], seconds: float, hz: float = HZ) -> list[str]:
    """Have these processes sample themselves for some seconds; returns those that do not answer."""
    return gather.ask([gather.address(one) for one in workers], f"profile:{seconds}:{hz}", 1, TIMEOUT_S).silent


def collect(workers: Sequence[str], name: str = "") -> Profile:
    """What these have seen until now. ``name``: only stacks whose outermost call has it."""
    found = gather.ask([gather.address(one) for one in workers], "profile", 1, TIMEOUT_S)
    rows = [row for row in found.rows if "stacks" in row]
    return Profile(
        together(rows, name),
        [row["answered_by"] for row in rows],
        found.silent,
        max((row["passed_s"] for row in rows), default=0.0),
        sum(row["samples"] for row in rows),
        sum(row["own_cpu_s"] for row in rows),
        any(row["is_running"] for row in rows),
    )


def take(workers: Sequence[str], seconds: float, name: str = "", hz: float = HZ) -> Profile:
    """A whole profile: begin, wait, collect."""
    silent = begin(workers, seconds, hz)
    asked = [one for one in workers if one not in silent]
    time.sleep(seconds)
    while (found := collect(asked, name)).is_running:
        time.sleep(0.2)
    return found._replace(silent=sorted({*silent, *found.silent}))


def together(rows: Iterable[Row], name: str = "") -> dict[tuple[str, ...], tuple[float, float]]:
    """The stacks of all rows, added up."""
    found: dict[tuple[str, ...], tuple[float, float]] = {}
    for row in rows:
        for text, passed_s, cpu_s in [*row["stacks"], ["(further stacks)", *row["other"]]]:
            stack = tuple(text.split(";"))
            if (passed_s or cpu_s) and (not name or _is_of(stack[0], name)):
                before = found.get(stack, (0.0, 0.0))
                found[stack] = before[0] + passed_s, before[1] + cpu_s
    return found


def _is_of(call: str, name: str) -> bool:
    """Whether a call is that of a task or method: by its whole name, or by the last part where one has no other."""
    found = call.partition(" (")[0]
    return name in (found, found.rpartition(".")[2]) or found == name.rpartition(".")[2]


def tree(stacks: dict[tuple[str, ...], tuple[float, float]], least: float = LEAST_SHARE) -> dict[str, Any]:
    """Calls below calls, each with its seconds (``passed_s``, ``cpu_s``, those of what it calls with them). The largest
    stand first; those below the least share of both are left out."""
    root: dict[str, Any] = {"name": "all", "passed_s": 0.0, "cpu_s": 0.0, "below": {}}
    for stack, (passed_s, cpu_s) in stacks.items():
        at = root
        for name in ("", *stack):
            if name:
                at = at["below"].setdefault(name, {"name": name, "passed_s": 0.0, "cpu_s": 0.0, "below": {}})
            at["passed_s"] += passed_s
            at["cpu_s"] += cpu_s
    return _pruned(root, root["passed_s"] * least, root["cpu_s"] * least)


def _pruned(node: dict[str, Any], least_passed_s: float, least_cpu_s: float) -> dict[str, Any]:
    kept = [
        _pruned(one, least_passed_s, least_cpu_s)
        for one in node["below"].values()
        if one["passed_s"] >= least_passed_s or (one["cpu_s"] and one["cpu_s"] >= least_cpu_s)
    ]
    kept.sort(key=lambda one: -one["passed_s"])
    return {**node, "passed_s": round(node["passed_s"], 3), "cpu_s": round(node["cpu_s"], 3), "below": kept}


def by_call(stacks: dict[tuple[str, ...], tuple[float, float]]) -> list[dict[str, Any]]:
    """Each call with the seconds on a CPU and the seconds that passed in it alone, and with what it calls."""
    found: dict[str, dict[str, Any]] = {}
    for stack, (passed_s, cpu_s) in stacks.items():
        for name in set(stack):
            one = found.setdefault(name, dict.fromkeys(("own_cpu_s", "own_passed_s", "all_cpu_s", "all_passed_s"), 0.0))
            one["name"] = name
            one["all_cpu_s"] += cpu_s
            one["all_passed_s"] += passed_s
        found[stack[-1]]["own_cpu_s"] += cpu_s
        found[stack[-1]]["own_passed_s"] += passed_s
    return sorted(found.values(), key=lambda one: (-one["own_cpu_s"], -one["own_passed_s"]))


def speedscope(profile: Profile, name: str) -> dict[str, Any]:
    """The profile as a file for speedscope.app: one view by seconds on a CPU, one by seconds that passed."""
    frames = {call: number for number, call in enumerate(dict.fromkeys(c for stack in profile.stacks for c in stack))}
    samples = [[frames[call] for call in stack] for stack in profile.stacks]

    def view(title: str, which: int) -> dict[str, Any]:
        weights = [times[which] for times in profile.stacks.values()]
        return {
            "type": "sampled", "name": title, "unit": "seconds", "startValue": 0, "endValue": sum(weights),
            "samples": samples, "weights": weights,
        }  # fmt: skip

    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {"frames": [{"name": call} for call in frames]},
        "profiles": [view("seconds on a CPU", 1), view("seconds that passed", 0)],
        "name": name,
        "exporter": "hpc profile",
    }
