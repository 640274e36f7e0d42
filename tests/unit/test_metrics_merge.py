"""Samples of many become one: the same in any order and by any tree, exact where it can be, within bounds."""

from __future__ import annotations

import random
from functools import reduce

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.core.metrics.merge import MAX_SETS, OTHER, Merged
from hpc.core.metrics.sample import BINS, HISTOGRAM, Sample, band_of, counted, five, gauge, merged, quantile

VALUES = st.floats(-10, 1e15, allow_nan=False).map(lambda value: round(value, 3))


def by_tree(samples: list[Sample], rng: random.Random) -> Sample:
    """Merged two by two, in any order."""
    left = list(samples)
    while len(left) > 1:
        one, other = (left.pop(rng.randrange(len(left))) for _ in range(2))
        left.append(merged(one, other))
    return left[0]


def shape(band: Sample) -> tuple[object, ...]:
    return band.low, band.high, band.count, band.shift, band.first, band.under, band.bins


@given(st.lists(VALUES, min_size=1, max_size=60), st.integers(0, 10))
def test_a_band_is_the_same_in_any_order_and_by_any_tree(values, seed):
    samples = [gauge("g", value) for value in values]
    one, other = reduce(merged, samples), by_tree(samples, random.Random(seed))
    assert shape(one) == shape(other)
    assert one.total == pytest.approx(other.total) and one.count == len(values)
    assert (one.low, one.high) == (min(values), max(values)) and len(one.bins) <= BINS
    if one.low != one.high:
        assert one.under + sum(one.bins) == len(values)
    cut = seed % len(values)
    halves = [band_of(part) for part in (samples[:cut], samples[cut:]) if part]
    for together in (band_of(samples), band_of(halves)):  # in one go, and of what was merged before
        assert shape(together) == shape(one) and together.total == pytest.approx(one.total)


@given(st.lists(st.floats(0.001, 1e9), min_size=2, max_size=200))
def test_a_quantile_is_as_exact_as_a_bin_is_narrow(values):
    band = reduce(merged, [gauge("g", value) for value in values])
    width = 2.0 ** ((1 << band.shift) / 16)
    for share in (0.1, 0.5, 0.9):
        exact = sorted(values)[int(share * (len(values) - 1))]
        assert exact / width * 0.999 <= quantile(band, share) <= exact * width * 1.001


def test_values_that_are_alike_are_told_exactly():
    band = reduce(merged, [gauge("g", 0.7)] * 1000)
    assert five(band) == (0.7, 0.7, 0.7, 0.7, 0.7) and not band.bins and len(msgspec.msgpack.encode(band)) < 60


def test_a_band_that_was_sent_is_the_same():
    band = reduce(merged, [gauge("g", value) for value in (0.0, 0.5, 3.0, 1e9)])
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(band), type=Sample)
    assert again == band and merged(again, gauge("g", 2.0)) == merged(band, gauge("g", 2.0))


@given(st.lists(st.lists(st.integers(0, 1000), min_size=4, max_size=4), min_size=1, max_size=20), st.integers(0, 10))
def test_histograms_are_added_exactly(counts, seed):
    bounds = (1.0, 2.0, 4.0)
    samples = [Sample("h", HISTOGRAM, (), float(sum(bins)), sum(bins), bins=bins, bounds=bounds) for bins in counts]
    assert by_tree(samples, random.Random(seed)) == reduce(merged, samples)
    assert reduce(merged, samples).bins == [sum(column) for column in zip(*counts)]


def test_a_histogram_with_other_bounds_is_dropped_and_counted():
    table = Merged()
    table.add(Sample("h", HISTOGRAM, (), 1.0, 1, bins=[1, 0], bounds=(1.0,)))
    table.add(Sample("h", HISTOGRAM, (), 1.0, 1, bins=[1, 0], bounds=(2.0,)))
    table.add(gauge("h", 1.0))
    assert table.dropped == 2 and table.samples[("h", ())].bins == [1, 0]


def test_sets_of_labels_beyond_the_limit_count_together():
    table = Merged()
    for number in range(1000):
        table.add(counted("c", 1, ("user", str(number))))
    assert len(table.samples) == MAX_SETS + 1
    assert table.samples[("c", ("user", OTHER))].total == 1000 - MAX_SETS == table.dropped
    assert sum(sample.total for sample in table.samples.values()) == 1000


def test_a_table_has_room_for_so_many_series():
    table = Merged(max_series=10)
    table.add_all(counted(f"c{number}", 1) for number in range(12))
    assert len(table.samples) == 10 and table.dropped == 2


def test_a_name_whose_samples_were_taken_leaves_nothing_behind():
    table = Merged()
    for number in range(3):
        table.add(counted(f"c{number}", 1, ("k", "a")))
        table.add(counted(f"c{number}", 1, ("k", "b")))
        table.take((f"c{number}", ("k", "a")))
        assert list(table._sets) == [f"c{number}"]
        table.take((f"c{number}", ("k", "b")))
    assert not table._sets and not table.samples


def test_gauges_of_many_in_one_go_are_those_that_come_one_by_one():
    samples = [
        gauge(f"g{name}", float(value), ("n", str(tag))) for value in range(5) for name in "ab" for tag in range(3)
    ]
    at_once, one_by_one = Merged(max_sets=2), Merged(max_sets=2)
    at_once.add_gauges(samples)
    one_by_one.add_all(samples)
    assert at_once.samples == one_by_one.samples and at_once.dropped == one_by_one.dropped == 10
    assert at_once.samples[("ga", ("n", OTHER))].count == 5
