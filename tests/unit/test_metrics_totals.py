"""Totals as one reader sees them: a head that begins anew takes nothing away."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from hpc.metrics.totals import Totals
from hpc.state.metrics import Band, Latest, MetricRow


def of(*rows: MetricRow) -> Latest:
    return Latest(1.0, 0.0, 1, [], 0, list(rows))


def counter(value: float, name: str = "steps", **labels: str) -> MetricRow:
    return MetricRow(name, "counter", labels, value)


def histogram(low: int, high: int, end: float = 1.0) -> MetricRow:
    return MetricRow("h", "histogram", {}, None, None, [(end, low), (math.inf, low + high)], 2.0 * high, low + high)


def test_what_was_counted_before_is_added_and_what_is_missing_stays():
    totals = Totals()
    assert totals.grown(of(counter(5), counter(3, "gone"))).rows == [counter(3, "gone"), counter(5)]
    assert totals.grown(of(counter(2))).rows == [counter(3, "gone"), counter(7)]
    assert totals.grown(of(counter(4), counter(1, "gone"))).rows == [counter(4, "gone"), counter(9)]
    assert totals.grown(of(counter(1))).rows == [counter(4, "gone"), counter(10)]


def test_histograms_grow_bucket_by_bucket():
    totals = Totals()
    totals.grown(of(histogram(3, 4)))
    (row,) = totals.grown(of(histogram(1, 0))).rows
    assert (row.buckets, row.sum, row.count) == ([(1.0, 4), (math.inf, 8)], 8.0, 8)
    (other,) = totals.grown(of(histogram(0, 0, 9.0))).rows
    assert other.buckets == [(9.0, 0), (math.inf, 0)], "of other boundaries nothing can be added"


def test_gauges_are_those_of_now():
    totals, band = Totals(), Band(1, 1, 1, 1, 1, 1, 1)
    gauge = MetricRow("g", "gauge", {}, 1.0, band, None, 1.0, 1)
    assert totals.grown(of(gauge)).rows == [gauge] and totals.grown(of()).rows == []


@given(st.lists(st.one_of(st.none(), st.integers(0, 9))))
def test_no_total_ever_falls(grows):
    """None is a head that begins anew."""
    totals, raw, last = Totals(), 0, 0.0
    for grown in grows:
        raw = 0 if grown is None else raw + grown
        rows = totals.grown(of(counter(raw)) if raw else of()).rows
        now = rows[0].value if rows else 0.0
        assert now is not None and now >= last
        last = now


def test_a_head_that_nobody_has_told_anything_yet_takes_nothing_away_and_adds_nothing():
    """The first node tells it all once more: what was told before would be counted twice."""
    totals = Totals()
    assert [row.value for row in totals.grown(of(counter(7.0))).rows] == [7.0]
    unheard = Latest(0.0, math.inf, 0, [], 0, [counter(0.0, "hpc_of_the_head")])
    assert [row.value for row in totals.grown(unheard).rows] == [7.0]
    assert [row.value for row in totals.grown(of(counter(8.0))).rows] == [8.0]
