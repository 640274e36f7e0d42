"""The course of a session as a few lines: what was used of what there was, and how much work there was. It is made of
the metrics that the head keeps, so it begins with the session, whoever looks and since when."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpc.core.metrics.table import MEMORY, RESOURCES, STORE, TASKS_UNFINISHED, WORKERS
from hpc.state import metrics
from hpc.state.gather import session_facts
from hpc.state.metrics import SeriesRow
from hpc.state.spend import COURSES, Spend, points_of, spend

NAMES = (RESOURCES, MEMORY, STORE, WORKERS, TASKS_UNFINISHED)
#: Of a long course as many points are shown.
MOST_POINTS = 300

#: Times on the wall clock under "times", and values from 0 to 1 or numbers under the names of their lines.
Points = dict[str, list[float | None]]


def lately(since_s: float = 600.0, timeout_s: float = metrics.TIMEOUT_S) -> Points:
    """The last minutes."""
    return lines_of(metrics.series(NAMES, 2.0, since_s, timeout_s))


def whole(timeout_s: float = metrics.TIMEOUT_S) -> tuple[Points, Spend]:
    """All that the head knows of the session's course, and what was spent in it."""
    courses = [metrics.series(NAMES, step_s, since_s, timeout_s) for step_s, since_s in COURSES]
    found: Points = {"times": []}
    for rows in courses:
        found = joined(lines_of(rows), found)
    resources = [[row for row in rows if row.name == RESOURCES] for rows in courses]
    return thinned(found), spend(points_of(resources), session_facts(timeout_s)["time_left_s"])


def lines_of(rows: Sequence[SeriesRow]) -> Points:
    """The lines of one course."""
    times = rows[0].times if rows else []
    sums: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        key = (row.name, *(row.labels[name] for name in sorted(row.labels)))
        sums[key] = [math.nan if band is None else band.sum for band in row.bands or ()]

    def of(*key: str) -> list[float]:
        return sums.get(key, [math.nan] * len(times))

    found: Points = {"times": [round(time_s, 2) for time_s in times]}
    for line, used, most in (
        ("CPU", of(RESOURCES, "used", "CPU"), of(RESOURCES, "total", "CPU")),
        ("GPU", of(RESOURCES, "used", "GPU"), of(RESOURCES, "total", "GPU")),
        ("memory", of(MEMORY, "used"), of(MEMORY, "limit")),
        ("store", of(STORE, "used"), of(STORE, "capacity")),
    ):
        found[line] = [_short(one / all_) if all_ else None for one, all_ in zip(used, most, strict=True)]
    running = [task + (0.0 if math.isnan(blocked) else blocked) for task, blocked in zip(
        of(WORKERS, "task"), of(WORKERS, "blocked"), strict=True
    )]  # fmt: skip
    found["workers_tasks"] = [_short(one) for one in running]
    found["workers_actors"] = [_short(one) for one in of(WORKERS, "actor")]
    found["workers_idle"] = [_short(one) for one in of(WORKERS, "idle")]
    found["unfinished"] = [_short(one) for one in of(TASKS_UNFINISHED)]
    return found


def joined(coarse: Points, fine: Points) -> Points:
    """What a coarser course knows of the time before a finer one, and that."""
    first = fine["times"][0] if fine["times"] else math.inf
    before = sum(1 for time_s in coarse["times"] if time_s is not None and first is not None and time_s < first)
    names = {**coarse, **fine}
    return {name: [*coarse.get(name, [])[:before], *fine.get(name, [None] * len(fine["times"]))] for name in names}


def thinned(points: Points) -> Points:
    """No more than `MOST_POINTS` of them, evenly in their time."""
    times = [time_s for time_s in points["times"] if time_s is not None]
    if len(times) <= MOST_POINTS:
        return points
    step_s = (times[-1] - times[0]) / MOST_POINTS
    kept, due = [], -math.inf
    for place, time_s in enumerate(times):
        if time_s >= due or place == len(times) - 1:
            kept.append(place)
            due = max(due + step_s, time_s) if math.isfinite(due) else time_s + step_s
    return {name: [values[place] for place in kept] for name, values in points.items()}


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
