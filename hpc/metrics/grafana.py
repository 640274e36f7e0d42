"""Boards for Grafana, made from the table of metrics, and the target by which Prometheus finds a session. Pure.

A board has one panel for each metric of the table, in rows by what it is about. It asks Prometheus alone, by a variable
``datasource``, so that it can be taken into any Grafana.
"""

from __future__ import annotations

from typing import Any

from hpc.core.metrics.table import TABLE, Metric

UNITS = {"seconds": "s", "bytes": "bytes", "ratio": "percentunit", "watts": "watt", "": "short"}
TITLES = {
    "tasks": "Tasks", "workers": "Workers", "nodes": "Nodes", "gpus": "GPUs", "objects": "Objects",
    "network": "Network", "runs": "Runs of libraries", "session": "Session", "runtime": "The runtime itself",
}  # fmt: skip
#: A gauge's band in a panel; of those with a sum that means something, the sum beside.
BAND = ("min", "p50", "max")
SUMMED = ("", "bytes", "watts")
WIDTH, HEIGHT = 12, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def board() -> dict[str, Any]:
    """The board as Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for name, title in TITLES.items():
        metrics = [metric for metric in TABLE if metric.panel == name]
        panels.append(
            {"type": "row", "title": title, "collapsed": False, "panels": [], "id": len(panels) + 1}
            | {"gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}
        )
        y += 1
        for at, metric in enumerate(metrics):
            place = {"x": WIDTH * (at % 2), "y": y + HEIGHT * (at // 2), "w": WIDTH, "h": HEIGHT}
            panels.append(_panel(metric, len(panels) + 1) | {"gridPos": place})
        y += HEIGHT * -(-len(metrics) // 2)
    variable = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return {
        "title": "hpc",
        "uid": "hpc",
        "tags": ["hpc"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [variable]},
        "panels": panels,
    }


def queries(metric: Metric) -> list[tuple[str, str]]:
    """(PromQL, legend) of a metric."""
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels)
    by = f" by ({', '.join(metric.labels)})" if metric.labels else ""
    if metric.kind == "counter":
        return [(f"sum{by} (rate({metric.name}[$__rate_interval]))", legend or "a second")]
    if metric.kind == "histogram":
        inner = f"sum by ({', '.join(('le', *metric.labels))}) (rate({metric.name}_bucket[$__rate_interval]))"
        return [(f"histogram_quantile({share}, {inner})", f"p{share * 100:g} {legend}") for share in (0.5, 0.99)]
    ends = (*BAND, "sum") if metric.unit in SUMMED else BAND
    return [(f'{metric.name}{{of="{end}"}}', f"{end} {legend}".strip()) for end in ends]


def _panel(metric: Metric, number: int) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + at), "expr": expr, "legendFormat": legend, "datasource": SOURCE}
        for at, (expr, legend) in enumerate(queries(metric))
    ]
    defaults: dict[str, Any] = {"unit": UNITS[metric.unit], "custom": {"lineWidth": 1, "fillOpacity": 5}}
    if metric.unit == "ratio":
        defaults |= {"min": 0, "max": 1}
    return {
        "id": number,
        "type": "timeseries",
        "title": metric.name,
        "description": metric.text,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }


def target(address: str, session: str, job: str = "") -> list[dict[str, Any]]:
    """A target as Prometheus's file_sd_configs reads it: one for the whole session."""
    labels = {"session": session} | ({"job_id": job} if job else {})
    return [{"targets": [address], "labels": labels}]
