"""What a session has spent: how many core and GPU hours there were, and how many of them work was given.

One reckoning for the report, which has looks of its own, and for pages, which have the metrics that the head keeps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Protocol

from msgspec import Struct

from hpc.state import metrics

#: The steps at which the head keeps a course, and how far back it goes: the finest that knows a time counts.
COURSES = ((2.0, 3600.0), (60.0, 6 * 3600.0), (600.0, 7 * 86400.0))


class Amounts(Protocol):
    """What there was at a time, and what work was given of it."""

    @property
    def time_s(self) -> float: ...

    @property
    def cpus(self) -> float: ...

    @property
    def cpus_given(self) -> float: ...

    @property
    def gpus(self) -> float: ...

    @property
    def gpus_given(self) -> float: ...


class Point(Struct, frozen=True):
    """The same, of the metrics."""

    time_s: float
    cpus: float = 0.0
    cpus_given: float = 0.0
    gpus: float = 0.0
    gpus_given: float = 0.0


class Spend(Struct, frozen=True):
    """Seconds of CPUs and GPUs from ``began_s`` to ``seen_s``, those that tasks, actors and placement groups had, and
    those that nobody had. ``left_s``: of the walltime; None without a limit."""

    began_s: float = 0.0
    seen_s: float = 0.0
    cpu_s: float = 0.0
    cpu_given_s: float = 0.0
    gpu_s: float = 0.0
    gpu_given_s: float = 0.0
    left_s: float | None = None

    @property
    def cpu_share(self) -> float | None:
        """Of the CPU seconds, those that were given; None where there were none."""
        return self.cpu_given_s / self.cpu_s if self.cpu_s else None

    @property
    def gpu_share(self) -> float | None:
        """The same of GPUs."""
        return self.gpu_given_s / self.gpu_s if self.gpu_s else None


def spend(points: Sequence[Amounts], left_s: float | None = None) -> Spend:
    """What was spent in the time of these points."""
    cpu_s = cpu_given_s = gpu_s = gpu_given_s = 0.0
    for one, after in pairwise(points):
        passed_s = after.time_s - one.time_s
        cpu_s += one.cpus * passed_s
        cpu_given_s += one.cpus_given * passed_s
        gpu_s += one.gpus * passed_s
        gpu_given_s += one.gpus_given * passed_s
    began_s, seen_s = (points[0].time_s, points[-1].time_s) if points else (0.0, 0.0)
    return Spend(began_s, seen_s, cpu_s, cpu_given_s, gpu_s, gpu_given_s, left_s)


def points_of(courses: Iterable[Sequence[metrics.SeriesRow]]) -> list[Point]:
    """The points of several courses of what there is, the finest first: what one does not know the next may."""
    found: list[Point] = []
    for rows in courses:
        points = _points(rows)
        before = found[0].time_s if found else math.inf
        found = [*(point for point in points if point.time_s < before), *found]
    return found


def _points(rows: Sequence[metrics.SeriesRow]) -> list[Point]:
    columns: dict[tuple[str, str], list[metrics.Band | None]] = {}
    for row in rows:
        columns[row.labels.get("resource", ""), row.labels.get("kind", "")] = row.bands or []

    def at(resource: str, kind: str, place: int) -> float:
        band = columns[resource, kind][place] if (resource, kind) in columns else None
        return band.sum if band is not None else 0.0

    times = rows[0].times if rows else []
    there = columns.get(("CPU", "total"), [])
    return [
        Point(
            time_s, at("CPU", "total", place), at("CPU", "used", place), at("GPU", "total", place),
            at("GPU", "used", place),
        )
        for place, time_s in enumerate(times)
        if place < len(there) and there[place] is not None
    ]  # fmt: skip
