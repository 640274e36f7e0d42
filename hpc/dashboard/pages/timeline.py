"""The timeline: what each worker ran when, in a window of time, as at most MOST rectangles. No I/O.

Tasks that are too short to be seen are drawn as one rectangle with their number. So a window of any length shows all
of them. Where that is still too much, the shortest are left out and counted.
"""

from __future__ import annotations

from typing import Any

from hpc.dashboard.pages.face import Answers, Page
from hpc.dashboard.views import Params, Row

#: Rectangles of one answer, workers that have a line, and names in the table.
MOST = 1500
MOST_LANES = 200
MOST_NAMES = 20
#: A window has this many steps that people can tell apart.
STEPS = 1000
SPAN_S = 60.0


def view(answers: Answers, params: Params) -> dict[str, Any]:
    """The rectangles of a window: ``begin`` and ``end`` in wall seconds, or the last ``span`` seconds."""
    rows = [row for row in answers["tasks"] if row.get("start_time_ms") and row.get("end_time_ms")]
    newest_s = max((row["end_time_ms"] for row in rows), default=0.0) / 1e3
    oldest_s = min((row["start_time_ms"] for row in rows), default=0.0) / 1e3
    span_s = params.number("span", SPAN_S, 1e9) or newest_s - oldest_s
    end_s = params.number("end", newest_s, 1e12)
    begin_s = params.number("begin", end_s - span_s, 1e12)
    inside = [row for row in rows if row["end_time_ms"] > begin_s * 1e3 and row["start_time_ms"] < end_s * 1e3]
    return {
        "begin_s": begin_s, "end_s": end_s, "oldest_s": oldest_s, "newest_s": newest_s, "tasks": len(inside),
        "known": len(rows), "totals": totals(inside, begin_s, end_s), **drawn(inside, begin_s, end_s),
    }  # fmt: skip


def drawn(rows: list[Row], begin_s: float, end_s: float) -> dict[str, Any]:
    """Rectangles, with the lanes and names that they number, and how many tasks are left out. A rectangle is its lane,
    its start from the window's begin and its length in ms, its name, its tasks, and how many failed."""
    step_ms = max(1e-6, (end_s - begin_s) * 1e3 / STEPS)
    lanes = sorted({row["worker_id"] for row in rows}, key=lambda worker: [int(part) for part in worker.split(".")])
    at = {worker: number for number, worker in enumerate(lanes[:MOST_LANES])}
    names: dict[str, int] = {}
    rects: list[list[Any]] = []
    newest: dict[int, list[Any]] = {}
    for row in sorted(rows, key=lambda row: row["start_time_ms"]):
        lane = at.get(row["worker_id"])
        if lane is None:
            continue
        start, long = row["start_time_ms"] - begin_s * 1e3, row["end_time_ms"] - row["start_time_ms"]
        name, failed = names.setdefault(row["name"], len(names)), int(row["state"] == "FAILED")
        last = newest.get(lane)
        if last is not None and last[3] == name and long < step_ms and start - (last[1] + last[2]) < step_ms:
            last[2] = max(last[2], start + long - last[1])
            last[4] += 1
            last[5] += failed
        else:
            newest[lane] = [lane, start, long, name, 1, failed]
            rects.append(newest[lane])
    left_out = 0
    if len(rects) > MOST:
        rects.sort(key=lambda rect: -rect[2])
        left_out = sum(rect[4] for rect in rects[MOST:])
        rects = rects[:MOST]
    short = [[lane, round(start, 2), round(long, 2), name, n, bad] for lane, start, long, name, n, bad in rects]
    return {
        "lanes": lanes[:MOST_LANES], "all_lanes": len(lanes), "names": list(names), "rects": short,
        "left_out": left_out,
    }  # fmt: skip


def totals(rows: list[Row], begin_s: float, end_s: float) -> list[dict[str, Any]]:
    """What took the time of the window, by name: how many tasks, and their seconds inside of it; the largest first."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = found.setdefault(row["name"], {"name": row["name"], "tasks": 0, "in_window_s": 0.0})
        one["tasks"] += 1
        one["in_window_s"] += min(row["end_time_ms"] / 1e3, end_s) - max(row["start_time_ms"] / 1e3, begin_s)
    return sorted(found.values(), key=lambda one: -one["in_window_s"])[:MOST_NAMES]


PAGE = Page("timeline", "Timeline", "4", ("tasks",), view)
