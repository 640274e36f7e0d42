"""Tasks and calls by their names: those that wait and run as their owners know them, those that have ended as counted.

What has ended is counted in the metrics, from the session's begin on and also of workers that have gone. So no process
has to remember its tasks for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpc.core.metrics.table import TASK_SECONDS, TASKS_FINISHED
from hpc.state.metrics import MetricRow

#: Names that are shown.
MOST = 40


def by_name(
    unfinished: Iterable[Mapping[str, Any]], counted: Iterable[MetricRow], most: int = MOST
) -> list[dict[str, Any]]:
    """By name how many wait, run, have finished and failed, and below which time half and nine tenths of those stayed,
    in seconds. What is unfinished, and then what failed, stands first."""
    groups: dict[str, dict[str, Any]] = {}

    def group(name: str) -> dict[str, Any]:
        return groups.setdefault(
            name, {"name": name, "waiting": 0, "running": 0, "finished": 0, "failed": 0, "p50_s": None, "p90_s": None}
        )

    for row in unfinished:
        group(row["name"])["running" if row["state"] == "RUNNING" else "waiting"] += 1
    for metric in counted:
        name = metric.labels.get("name", "")
        if metric.name == TASKS_FINISHED:
            kind = "failed" if metric.labels.get("outcome") == "failed" else "finished"
            group(name)[kind] += int(metric.value or 0)
        elif metric.name == TASK_SECONDS and metric.buckets:
            group(name)["p50_s"], group(name)["p90_s"] = (quantile(metric.buckets, share) for share in (0.5, 0.9))
    found = sorted(groups.values(), key=lambda g: (-(g["running"] + g["waiting"]), -g["failed"], -g["finished"]))
    return found[:most]


def quantile(buckets: Sequence[tuple[float, int]], share: float) -> float | None:
    """The value below which this share of a histogram's values are; None where there are none.

    Those of a bucket count as if they lay evenly on a logarithmic scale. Above the last end nothing is known: it is
    that end."""
    count = buckets[-1][1]
    wanted = share * count
    before, low = 0, 0.0
    for end, upto in buckets:
        if upto >= wanted and upto > before:
            if math.isinf(end):
                return low or None
            begin = low or end / 10
            return float(begin * (end / begin) ** ((wanted - before) / (upto - before)))
        before, low = upto, end
    return None
