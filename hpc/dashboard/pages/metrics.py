"""Metrics: the newest of all that the session counts, and the course of one. The rows are those of `hpc metrics`."""

from __future__ import annotations

import math
from typing import Any

from hpc.core.metrics.table import BY_NAME
from hpc.dashboard.pages.face import Answers, Page
from hpc.dashboard.views import Params, listing
from hpc.state import metrics

COLUMNS = ("name", "labels", "kind", "value", "least", "median", "largest", "count")
#: Lines of one chart, and the longest course that it shows.
MOST_LINES, MOST_S = 8, 6 * 3600.0


def ask() -> metrics.Latest:
    """The newest of all; says that somebody looks, so that more comes."""
    metrics.look()
    return metrics.latest()


def view(answers: Answers, params: Params) -> dict[str, Any]:
    """The rows, with the age of what the head knows and the nodes that are not in it."""
    found: metrics.Latest = answers["metrics"]
    chosen = BY_NAME.get(params.text("id"))
    return {
        **listing([_row(row) for row in found.rows], COLUMNS, params),
        "age_s": found.age_s if math.isfinite(found.age_s) else None,
        "nodes": found.nodes,
        "silent": found.silent[:8],
        "dropped": found.dropped,
        "about": chosen.text if chosen else "",
    }


def _row(row: metrics.MetricRow) -> dict[str, Any]:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(row.labels.items()))
    found: dict[str, Any] = {"name": row.name, "labels": labels, "kind": row.kind, "count": row.count}
    found["value"] = row.sum if row.kind == "histogram" else row.value
    if row.band is not None:
        found |= {"least": row.band.min, "median": row.band.p50, "largest": row.band.max}
    return {name: value for name, value in found.items() if not isinstance(value, float) or math.isfinite(value)}


def course(params: Params) -> dict[str, Any]:
    """The course of the metric ``name`` over ``since`` seconds: the lines with the largest last values, and how many
    there are. A gauge's line is its median, a counter's what it grows by in a second."""
    since_s = params.number("since", 600.0, MOST_S)
    rows = metrics.series([params.text("name")], 2.0 if since_s <= 600 else 60.0, since_s)
    rows.sort(key=lambda row: -max((value for value in row.values if math.isfinite(value)), default=0.0))
    lines = [", ".join(row.labels.values()) or row.name for row in rows[:MOST_LINES]]
    points: dict[str, Any] = {"times": rows[0].times if rows else []}
    for number, row in enumerate(rows[:MOST_LINES]):
        points[f"line{number}"] = [value if math.isfinite(value) else None for value in row.values]
    return {"lines": lines, "points": points, "all_lines": len(rows)}


PAGE = Page("metrics", "Metrics", "m", ("metrics",), view, {"course": course})
