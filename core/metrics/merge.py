"""Samples of many, merged by name and labels, within bounds: what is too much is counted and not kept."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hpc.core.metrics.sample import GAUGE, Labels, Sample, band_of, merged

#: Sets of labels of one metric; those beyond are merged into one, whose labels all say OTHER.
MAX_SETS = 100
#: Metrics with labels in one table.
MAX_SERIES = 2_000
OTHER = "other"

Key = tuple[str, Labels]


def others(labels: Labels) -> Labels:
    """The labels of all that has no room of its own."""
    return tuple(word if at % 2 == 0 else OTHER for at, word in enumerate(labels))


class Merged:
    """Samples by name and labels. ``dropped`` counts those that had no room: folded into others, or lost. With some a
    sum would have had no end: they are lost too."""

    def __init__(self, max_sets: int = MAX_SETS, max_series: int = MAX_SERIES) -> None:
        self.samples: dict[Key, Sample] = {}
        self.dropped = 0
        self._sets: dict[str, int] = {}
        self._max_sets = max_sets
        self._max_series = max_series

    def add(self, sample: Sample) -> None:
        """One more. It must not be changed from now on."""
        key = (sample.name, sample.labels)
        there = self.samples.get(key)
        if there is None:
            sets = self._sets.get(sample.name, 0)
            rest = others(sample.labels)
            if sets >= self._max_sets and sample.labels != rest:
                self.dropped += 1
                self.add(_renamed(sample, rest))
                return
            if len(self.samples) >= self._max_series:
                self.dropped += 1
                return
            self._sets[sample.name] = sets + 1
            self.samples[key] = sample
            return
        if there.kind != sample.kind:
            self.dropped += 1
            return
        try:
            both = merged(there, sample)
        except ValueError:
            self.dropped += 1
            return
        if both.kind != GAUGE and not math.isfinite(both.total):
            self.dropped += 1
            return
        self.samples[key] = both

    def add_all(self, samples: Iterable[Sample]) -> None:
        """Several more."""
        for sample in samples:
            self.add(sample)

    def add_gauges(self, samples: Iterable[Sample]) -> None:
        """Gauges of many: all that are of one name and labels become one band in one go. One by one that took 8 us for
        each of them."""
        alike: dict[Key, list[Sample]] = {}
        for sample in samples:
            key = (sample.name, sample.labels)
            known = alike.get(key)
            if known is None:
                alike[key] = [sample]
            else:
                known.append(sample)
        for parts in alike.values():
            dropped = self.dropped
            self.add(band_of(parts))
            if self.dropped > dropped:
                self.dropped += len(parts) - 1

    def take(self, key: Key) -> Sample:
        """One of them, which is not here any more."""
        sample = self.samples.pop(key)
        self._sets[key[0]] -= 1
        if not self._sets[key[0]]:  # else a raylet had all names for ever of programs that make new ones
            del self._sets[key[0]]
        return sample


def _renamed(sample: Sample, labels: Labels) -> Sample:
    return Sample(
        sample.name, sample.kind, labels, sample.total, sample.count, sample.low, sample.high, sample.shift,
        sample.first, sample.under, sample.bins, sample.bounds,
    )  # fmt: skip
