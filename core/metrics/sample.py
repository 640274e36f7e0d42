"""A sample: what one metric with one set of labels says, of one process or of many; and how two become one.

Counters and histograms tell what was added since they told last, so a process that ends takes nothing away. A gauge of
many is a band. The smallest, the largest, their sum and their number are exact, and bins tell how the rest is spread.

The bins are on a logarithmic scale, at most `BINS` of them. At first 16 lie between a number and its double. Where the
values are spread too far for that, pairs of bins become one, as often as needed (as in OpenTelemetry's exponential
histograms). A bin of the coarser scale has exactly the values of two finer ones. So the order in which samples are
merged makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

#: The kinds, as they travel.
COUNTER, GAUGE, HISTOGRAM = 0, 1, 2
Kind = Literal["counter", "gauge", "histogram"]
KINDS: tuple[Kind, Kind, Kind] = ("counter", "gauge", "histogram")

BINS = 32
PER_DOUBLE = 16
#: Words of a sample, the characters of each, and the bounds of a histogram.
MAX_WORDS, MAX_WORD, MAX_BOUNDS = 33, 200, 1_000

#: Names and values of labels, one after the other.
Labels = tuple[str, ...]


class Sample(Struct, array_like=True):
    """One metric with one set of labels.

    ``total``: what a counter has grown by, or the sum of a gauge's or histogram's values. ``count`` is the number of
    these. ``low`` and ``high`` are the smallest and the largest value of a gauge. ``bins`` are a gauge's from number
    ``first`` on, after ``shift`` times two became one; none where all values are the same. ``under``: how many values
    are not above 0. Of a histogram ``bins`` has the values up to each of ``bounds`` and, last, those above."""

    name: str
    kind: int
    labels: Labels = ()
    total: float = 0.0
    count: int = 0
    low: float = 0.0
    high: float = 0.0
    shift: int = 0
    first: int = 0
    under: int = 0
    bins: list[int] = []
    bounds: tuple[float, ...] = ()


def counted(name: str, total: float, labels: Labels = ()) -> Sample:
    """What a counter has grown by."""
    return Sample(name, COUNTER, labels, total)


def gauge(name: str, value: float, labels: Labels = ()) -> Sample:
    """One value of a gauge."""
    return Sample(name, GAUGE, labels, value, 1, value, value)


def fits(sample: Sample) -> bool:
    """Whether a sample can be one: of a known kind, with few words and bins, and no word that is long."""
    words = (sample.name, *sample.labels)
    lists = len(sample.bins) <= 1 + max(len(sample.bounds), 40) and len(sample.bounds) <= MAX_BOUNDS
    if sample.kind == HISTOGRAM and len(sample.bins) != len(sample.bounds) + 1:
        return False
    known = COUNTER <= sample.kind <= HISTOGRAM
    return known and lists and len(words) <= MAX_WORDS and all(len(word) <= MAX_WORD for word in words)


def merged(one: Sample, other: Sample) -> Sample:
    """Both as one. ValueError for two histograms with other bounds."""
    if one.kind == COUNTER:
        return Sample(one.name, COUNTER, one.labels, one.total + other.total)
    if one.kind == GAUGE:
        return band_of((one, other))
    if one.bounds != other.bounds:
        raise ValueError(f"{one.name} has other bounds in another process")
    bins = [a + b for a, b in zip(one.bins, other.bins)]
    total, count = one.total + other.total, one.count + other.count
    return Sample(one.name, HISTOGRAM, one.labels, total, count, bins=bins, bounds=one.bounds)


def band_of(parts: Sequence[Sample]) -> Sample:
    """Gauges of one name and labels as one: the same as if they were merged one after the other, in any order."""
    one = parts[0]
    if len(parts) == 1:
        return one
    low, high = min([part.low for part in parts]), max([part.high for part in parts])
    total, count = sum([part.total for part in parts]), sum([part.count for part in parts])
    band = Sample(one.name, GAUGE, one.labels, total, count, low, high)
    if low == high:
        return band
    shift = max([part.shift for part in parts])
    bins: dict[int, int] = {}
    for part in parts:
        if part.low != part.high:
            band.under += part.under
            for at, there in enumerate(part.bins, part.first):
                if there:
                    at >>= shift - part.shift
                    bins[at] = bins.get(at, 0) + there
        elif part.low > 0:  # it has no bins yet
            at = bin_of(part.low) >> shift
            bins[at] = bins.get(at, 0) + part.count
        else:
            band.under += part.count
    if bins:
        first, last = min(bins), max(bins)
        narrower = 0
        while (last >> narrower) - (first >> narrower) >= BINS:
            narrower += 1
        band.shift, band.first = shift + narrower, first >> narrower
        band.bins = [0] * ((last >> narrower) - band.first + 1)
        for at, there in bins.items():
            band.bins[(at >> narrower) - band.first] += there
    return band


def bin_of(value: float) -> int:
    """The bin of a value above 0, on the finest scale."""
    return math.floor(math.log2(value) * PER_DOUBLE) if value < math.inf else 1024 * PER_DOUBLE


def quantile(band: Sample, share: float) -> float:
    """The value below which this share of a gauge's values lies, as exactly as the bins are narrow."""
    rank = share * (band.count - 1)
    seen = band.under
    if not band.bins or rank < seen:
        return band.low
    for at, count in enumerate(band.bins, band.first):
        seen += count
        if rank < seen:
            middle = ((at << band.shift) + (1 << band.shift) / 2) / PER_DOUBLE
            return min(max(2.0 ** min(middle, 1023.0), band.low), band.high)
    return band.high


def five(band: Sample) -> tuple[float, float, float, float, float]:
    """The smallest value of a band, those at a tenth, a half and nine tenths, and the largest."""
    if not band.bins:
        return band.low, band.low, band.low if band.low == band.high else band.total / band.count, band.high, band.high
    return band.low, quantile(band, 0.1), quantile(band, 0.5), quantile(band, 0.9), band.high
