"""Counters and histograms as somebody sees them who reads for long: they never fall. No I/O.

A head that was started again counts from 0 until the first node has told it once more what there was. The counter of
its own CPU time begins at 0 for good. What was told before is added where it was lost, and nothing is added before
that node is heard. Readers of Prometheus's form know how to go on from 0, but those of a sum of rates would miss what
came in between.
"""

from __future__ import annotations

import math

from hpc.state.metrics import Latest, MetricRow

Key = tuple[str, tuple[tuple[str, str], ...]]


class Totals:
    """The totals that one reader was told, by metric and labels."""

    def __init__(self) -> None:
        self._last: dict[Key, MetricRow] = {}
        self._before: dict[Key, MetricRow] = {}
        self._told: list[MetricRow] = []

    def grown(self, latest: Latest) -> Latest:
        """The same, with what was counted before a head was started again. Nothing that was told is ever missing."""
        if latest.age_s == math.inf and self._last:  # a head that no node has told anything yet
            told = [row for row in self._told if row.kind != "gauge"]
            return Latest(latest.time_s, latest.age_s, latest.nodes, latest.silent, latest.dropped, told)
        counted = {_key(row): row for row in latest.rows if row.kind != "gauge"}
        for key, last in self._last.items():
            now = counted.get(key)
            if now is None or _size(now) < _size(last) or now.kind != last.kind:
                self._before[key] = _sum(self._before.get(key), last)
        self._last = counted
        rows = [row for row in latest.rows if row.kind == "gauge"]
        rows += [_sum(self._before.get(key), row) for key, row in counted.items()]
        rows += [row for key, row in self._before.items() if key not in counted]
        rows.sort(key=lambda row: (row.name, sorted(row.labels.items())))
        self._told = rows
        return Latest(latest.time_s, latest.age_s, latest.nodes, latest.silent, latest.dropped, rows)


def _key(row: MetricRow) -> Key:
    return row.name, tuple(sorted(row.labels.items()))


def _size(row: MetricRow) -> float:
    return row.count if row.buckets is not None else row.value or 0.0


def _sum(before: MetricRow | None, now: MetricRow) -> MetricRow:
    """Both together; the newer one alone where they are not alike."""
    if before is None or before.kind != now.kind:
        return now
    if now.buckets is None:
        return MetricRow(now.name, now.kind, now.labels, (before.value or 0.0) + (now.value or 0.0))
    ends = [end for end, _ in now.buckets]
    if before.buckets is None or [end for end, _ in before.buckets] != ends:
        return now
    buckets = [(end, a + b) for (end, a), (_, b) in zip(before.buckets, now.buckets, strict=True)]
    return MetricRow(
        now.name, now.kind, now.labels, None, None, buckets, before.sum + now.sum, before.count + now.count
    )
