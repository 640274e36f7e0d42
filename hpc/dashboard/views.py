"""What pages show of rows: parts of lists, and tasks counted by name. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hpc.state.listing import LONGEST as LONGEST
from hpc.state.listing import Params as Params
from hpc.state.listing import Row as Row
from hpc.state.listing import listing as listing
from hpc.state.listing import matching as matching
from hpc.state.listing import short as short


def tasks_by_name(rows: Iterable[Row], most: int = 40) -> list[dict[str, Any]]:
    """Tasks and calls counted by name: waiting, running, finished, failed, and the median and longest time in seconds
    of what has ended. What is unfinished, and then what failed, stands first."""
    groups: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = {}
    for row in rows:
        name = row["name"]
        group = groups.get(name)
        if group is None:
            group = groups[name] = {"name": name, "waiting": 0, "running": 0, "finished": 0, "failed": 0}
        kind = STANDING.get(row["state"], "waiting")
        group[kind] += 1
        if kind in ("finished", "failed") and row.get("start_time_ms"):
            times.setdefault(name, []).append((row["end_time_ms"] - row["start_time_ms"]) / 1e3)
    found = sorted(groups.values(), key=lambda g: (-(g["running"] + g["waiting"]), -g["failed"], -g["finished"]))
    for group in found[:most]:
        took = sorted(times.get(group["name"], ()))
        group["p50_s"] = took[len(took) // 2] if took else None
        group["most_s"] = took[-1] if took else None
    return found[:most]


#: What a state of a task is to somebody who looks; all others are "waiting".
STANDING = {"RUNNING": "running", "FINISHED": "finished", "FAILED": "failed"}
