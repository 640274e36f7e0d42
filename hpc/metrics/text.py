"""Metrics as text, in the forms that Prometheus reads: its own, and OpenMetrics. Pure.

A gauge of many nodes or processes is one line for each end and quantile of its band. The label ``of`` tells them apart;
its values are in `ENDS`. Names that these forms do not have (a metric of a program may have any) are made into names
that they do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from hpc.core.metrics.table import BY_NAME
from hpc.state.metrics import Latest, MetricRow

#: What of a band is told, as the label ``of``.
ENDS = ("min", "p10", "p50", "p90", "max", "sum", "count")
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def prometheus(latest: Latest) -> str:
    """Prometheus's own form (version 0.0.4)."""
    return _text(latest, False)


def openmetrics(latest: Latest) -> str:
    """OpenMetrics 1.0."""
    return _text(latest, True)


def form_for(accept: str) -> str:
    """The content type that a reader wants, by its header Accept."""
    return OPENMETRICS if "application/openmetrics-text" in accept else PROMETHEUS


def _text(latest: Latest, strict: bool) -> str:
    by_name: dict[str, list[MetricRow]] = {}
    for row in latest.rows:
        by_name.setdefault(_name(row.name), []).append(row)
    lines: list[str] = []
    for name, rows in sorted(by_name.items()):
        kind = rows[0].kind
        family = name.removesuffix("_total") if strict and kind == "counter" else name
        known = BY_NAME.get(name)
        if known is not None:
            lines.append(f"# HELP {family} {_escaped(known.text)}")
        lines.append(f"# TYPE {family} {kind}")
        if strict and known is not None and known.unit and family.endswith("_" + known.unit):
            lines.append(f"# UNIT {family} {known.unit}")
        for row in rows:
            if row.kind == kind:
                lines += _lines(name, row, strict)
    if strict:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _lines(name: str, row: MetricRow, strict: bool) -> Iterable[str]:
    if row.band is not None:
        for end in ENDS:
            yield f"{name}{_labels(row.labels, ('of', end))} {_number(getattr(row.band, end))}"
    elif row.buckets is not None:
        for bound, count in [one for one in row.buckets[:-1] if one[0] < math.inf] + row.buckets[-1:]:
            yield f"{name}_bucket{_labels(row.labels, ('le', _number(bound)))} {count}"
        yield f"{name}_sum{_labels(row.labels)} {_number(row.sum)}"
        yield f"{name}_count{_labels(row.labels)} {row.count}"
    else:
        total = name if not strict or name.endswith("_total") else f"{name}_total"
        yield f"{total}{_labels(row.labels)} {_number(row.value or 0.0)}"


def _labels(labels: Mapping[str, str], *more: tuple[str, str]) -> str:
    taken = dict(more)
    pairs: dict[str, str] = {}
    for key, value in labels.items():
        pairs[_label(key, {**taken, **pairs})] = value
    pairs |= taken
    return "{" + ",".join(f'{key}="{_quoted(value)}"' for key, value in pairs.items()) + "}" if pairs else ""


def _label(key: str, taken: Mapping[str, str]) -> str:
    """A label that no other has: with two of one name a reader takes nothing of the whole text."""
    key = re.sub(r"[^a-zA-Z0-9_]", "_", key)
    key = f"_{key}" if key[:1].isdigit() or not key else key
    while key in taken:
        key = f"exported_{key}"
    return key


def _name(name: str) -> str:
    name = re.sub(r"[^a-zA-Z0-9_:]", "_", name)
    return f"_{name}" if name[:1].isdigit() or not name else name


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
