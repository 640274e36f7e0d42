"""Metrics of the whole session: the newest of everything, the course of some, the heat of nodes.

All of it is kept by the head, which is told by a tree of raylets. So a question costs the head one answer, however
many nodes there are. What is shown has its age, and the nodes of which nothing is known are named.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from hpc.api.connection import ensure_client
from hpc.core.metrics.sample import COUNTER, GAUGE, HISTOGRAM, KINDS, Kind, Sample, five
from hpc.core.wire import MetricsQuery

TIMEOUT_S = 10.0


class Band(Struct, frozen=True):
    """The values of a gauge on all nodes, or in all processes. Those at a tenth, a half and nine tenths are as exact as
    bins are narrow, the others exact."""

    min: float
    p10: float
    p50: float
    p90: float
    max: float
    sum: float
    count: int


class MetricRow(Struct, frozen=True):
    """One metric with one set of labels. ``value``: a counter's total, or the sum of a gauge's values; None of a
    histogram. ``band``: of a gauge. ``buckets``: of a histogram, (upper end, values up to it), the last end infinite.
    ``sum`` and ``count``: of a gauge's or histogram's values."""

    name: str
    kind: Kind
    labels: dict[str, str]
    value: float | None = None
    band: Band | None = None
    buckets: list[tuple[float, int]] | None = None
    sum: float = 0.0
    count: int = 0


class Latest(Struct, frozen=True):
    """The newest of all metrics. ``time_s``: when the head heard of them, on this machine's wall clock; ``age_s``: how
    long ago that was (infinite: it has not yet). ``nodes``: how many are in it; ``silent``: numbers of those that are
    not. ``dropped``: samples that had no room of their own."""

    time_s: float
    age_s: float
    nodes: int
    silent: list[str]
    dropped: int
    rows: list[MetricRow]


class SeriesRow(Struct, frozen=True):
    """The course of one metric with one set of labels. ``times``: on this machine's wall clock. ``values`` are the
    median of a gauge, or what a counter grows by in a second. Of a histogram they are how many come in a second. NaN is
    one that is not known. ``bands``: of a gauge, one for each time, None where it is not known."""

    name: str
    labels: dict[str, str]
    times: list[float]
    values: list[float]
    bands: list[Band | None] | None = None


def latest(timeout_s: float = TIMEOUT_S) -> Latest:
    """The newest of all metrics. Raises GetTimeoutError if the head does not answer in time."""
    found = _ask("latest", timeout_s)
    age_s = math.inf if found["age_s"] is None else found["age_s"]
    silent = [str(node) for node in found["silent"]]
    if found["silent_more"]:
        silent.append(f"and {found['silent_more']} more")
    rows = [_row(msgspec.convert(sample, Sample)) for sample in found["samples"]]
    rows.sort(key=lambda row: (row.name, sorted(row.labels.items())))
    return Latest(
        time.time() - age_s if age_s < math.inf else 0.0, age_s, found["nodes"], silent, found["dropped"], rows
    )


def series(
    names: Sequence[str], step_s: float = 2.0, since_s: float = 600.0, timeout_s: float = TIMEOUT_S
) -> list[SeriesRow]:
    """The course of these metrics over the last ``since_s`` seconds, at the finest step that is at least ``step_s``.
    There are 2 s (for 10 min, if somebody looks all the time), 60 s (6 h) and 600 s (a week)."""
    found = _ask("series", timeout_s, list(names), step_s, since_s)
    now = time.time()
    times = [now - age_s for age_s in _numbers(found["ages"])]
    rows = []
    for name, labels, kind, columns in found["rows"]:
        numbers = [_numbers(column) for column in columns]
        if kind == GAUGE:
            bands = [_band_at(numbers, at) for at in range(len(times))]
            rows.append(SeriesRow(name, _labels(labels), times, numbers[2], bands))
        else:
            rows.append(SeriesRow(name, _labels(labels), times, _rates(times, numbers[0])))
    return sorted(rows, key=lambda row: (row.name, sorted(row.labels.items())))


def heat(name: str, timeout_s: float = TIMEOUT_S) -> dict[int, float]:
    """A gauge from 0 to 1 of each node by itself, by the node's number; empty for one that is not told so."""
    found = _ask("heat", timeout_s, [name])
    return {int(node): value / 254 for node, value in sorted(found.items())}


def look(period_s: float = 2.0, timeout_s: float = TIMEOUT_S) -> None:
    """Say that somebody looks: for 30 s from now on metrics are told every ``period_s`` seconds (2 at least), else
    every 10."""
    _ask("look", timeout_s, [], period_s)


def _ask(
    what: Literal["latest", "series", "heat", "look"],
    timeout_s: float,
    names: Sequence[str] = (),
    step_s: float = 2.0,
    since_s: float = 600.0,
) -> Any:
    client = ensure_client()
    wanted = list(names)
    answer = client.conversation.ask_head(lambda req: MetricsQuery(req, what, wanted, step_s, since_s), timeout_s)
    return msgspec.msgpack.decode(answer.data, strict=False)


def _row(sample: Sample) -> MetricRow:
    labels, kind = _labels(sample.labels), KINDS[sample.kind]
    if sample.kind == COUNTER:
        return MetricRow(sample.name, kind, labels, sample.total)
    if sample.kind == HISTOGRAM:
        buckets, seen = [], 0
        for end, count in zip((*sample.bounds, math.inf), sample.bins):
            seen += count
            buckets.append((end, seen))
        return MetricRow(sample.name, kind, labels, None, None, buckets, sample.total, sample.count)
    band = Band(*five(sample), sample.total, sample.count)
    return MetricRow(sample.name, kind, labels, sample.total, band, None, sample.total, sample.count)


def _labels(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2]))


def _numbers(data: bytes) -> list[float]:
    found = array("d")
    found.frombytes(data)
    return found.tolist()


def _band_at(columns: Sequence[Sequence[float]], at: int) -> Band | None:
    low, p10, p50, p90, high, total, count = (column[at] for column in columns)
    return None if math.isnan(low) else Band(low, p10, p50, p90, high, total, int(count))


def _rates(times: Sequence[float], totals: Sequence[float]) -> list[float]:
    """What a counter grows by in a second, before each of these times. One that is less than it was has begun anew."""
    rates = [math.nan] * len(times)
    for at in range(1, len(times)):
        grown, passed_s = totals[at] - totals[at - 1], times[at] - times[at - 1]
        if passed_s > 0 and grown == grown:
            rates[at] = (grown if grown >= 0 else totals[at]) / passed_s
    return rates


__all__ = ["Band", "Latest", "MetricRow", "SeriesRow", "heat", "latest", "look", "series"]
