"""The course of metrics: for each a ring of its last numbers at three steps, all rings on common times. Pure.

Numbers lie in arrays of doubles, which grow with what was seen. A counter takes one number a time (its total), a
histogram two (its count and its sum). A gauge takes seven: the five of its band, the sum and the number of its values.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator

from hpc.core.metrics.merge import Key
from hpc.core.metrics.sample import COUNTER, GAUGE, HISTOGRAM, Sample, five

#: (seconds, how many): ten minutes each 2 s, six hours each minute, and a week each 10 min.
STEPS = ((2.0, 300), (60.0, 360), (600.0, 1008))
WIDTH = {COUNTER: 1, GAUGE: 7, HISTOGRAM: 2}
#: Numbers a time of all series together: 2,000 counters, or the fewer gauges.
MAX_NUMBERS = 2_000
#: A series that was not there for so long goes when there is no room for another one.
GONE_S = STEPS[0][0] * STEPS[0][1]
NAN = math.nan


def numbers_of(sample: Sample) -> tuple[float, ...]:
    """What is kept of a sample at one time."""
    if sample.kind == COUNTER:
        return (sample.total,)
    if sample.kind == HISTOGRAM:
        return (float(sample.count), sample.total)
    return (*five(sample), sample.total, float(sample.count))


class Ring:
    """The last ``size`` times of one step, and the numbers of each series at these."""

    def __init__(self, step_s: float, size: int) -> None:
        self.step_s = step_s
        self.size = size
        self.times = array("d")
        self.ticks = 0
        self.tracks: dict[Key, tuple[int, array[float]]] = {}

    def add(self, now: float, rows: dict[Key, tuple[float, ...]]) -> None:
        """The numbers at a time; a series that has none here has a gap."""
        at = self.ticks % self.size
        there = len(self.times)
        grows = there < self.size
        if grows:
            self.times.append(now)
        else:
            self.times[at] = now
        for key, numbers in rows.items():
            if key not in self.tracks:
                width = len(numbers)
                before = NAN if width == WIDTH[GAUGE] else 0.0  # what grows was nothing before it was seen
                self.tracks[key] = (width, array("d", [before]) * (width * there))
        for key, (width, track) in self.tracks.items():
            found = rows.get(key)
            values = array("d", found if found is not None else (NAN,) * width)
            if grows:
                track.extend(values)
            else:
                track[at * width : (at + 1) * width] = values
        self.ticks += 1

    def order(self) -> Iterator[int]:
        """The places, the oldest first."""
        there = len(self.times)
        first = self.ticks % self.size if there == self.size else 0
        yield from range(first, there)
        yield from range(first)

    def since(self, since: float) -> list[int]:
        """The places of the times after this one, the oldest first."""
        return [at for at in self.order() if self.times[at] > since]

    def column(self, key: Key, which: int, places: list[int]) -> list[float]:
        """One of a series' numbers at these places."""
        width, track = self.tracks[key]
        return [track[at * width + which] for at in places]


class Series:
    """The course of all metrics. ``dropped``: how many have none, for want of room."""

    def __init__(self) -> None:
        self.rings = [Ring(step_s, size) for step_s, size in STEPS]
        self.kinds: dict[Key, int] = {}
        #: When each was there last.
        self.seen: dict[Key, float] = {}
        self.numbers = 0
        self.dropped: dict[Key, None] = {}
        self._next = [-math.inf for _ in STEPS]
        self._since = [-math.inf for _ in STEPS]

    def is_due(self, now: float) -> bool:
        """Whether the finest ring takes another time."""
        return now >= self._next[0]

    def add(self, now: float, samples: dict[Key, Sample]) -> None:
        """What is so now."""
        rows = {}
        gone = self._gone(now, samples)
        for key, sample in samples.items():
            if self._has_room(key, sample.kind, gone):
                rows[key] = numbers_of(sample)
                self.seen[key] = now
        # A little less than a step: what comes every two seconds comes a moment early now and then.
        self._next[0] = now + 0.9 * STEPS[0][0]
        self.rings[0].add(now, rows)
        for at in range(1, len(STEPS)):
            if now >= self._next[at]:
                begun, self._since[at] = self._since[at], now
                self._next[at] = now + STEPS[at][0]
                fine = self.rings[at - 1]
                if math.isfinite(begun):
                    self.rings[at].add(now, self._together(fine, fine.since(begun)))

    def _gone(self, now: float, samples: dict[Key, Sample]) -> list[Key]:
        """Series that may make room for others, because they were not there for so long: the one that was gone first
        stands last."""
        if all(key in self.kinds for key in samples):
            return []
        gone = [key for key, seen in self.seen.items() if now - seen > GONE_S and key not in samples]
        return sorted(gone, key=self.seen.__getitem__, reverse=True)

    def _has_room(self, key: Key, kind: int, gone: list[Key]) -> bool:
        if key in self.kinds:
            return self.kinds[key] == kind
        while self.numbers + WIDTH[kind] > MAX_NUMBERS and gone:
            self._forget(gone.pop())
        if self.numbers + WIDTH[kind] > MAX_NUMBERS:
            if len(self.dropped) < MAX_NUMBERS:
                self.dropped[key] = None
            return False
        self.numbers += WIDTH[kind]
        self.kinds[key] = kind
        return True

    def _forget(self, key: Key) -> None:
        self.numbers -= WIDTH[self.kinds.pop(key)]
        del self.seen[key]
        for ring in self.rings:
            ring.tracks.pop(key, None)

    def _together(self, fine: Ring, places: list[int]) -> dict[Key, tuple[float, ...]]:
        """Several times as one: of what grows the last, of a band the ends and the means of what lies between."""
        rows: dict[Key, tuple[float, ...]] = {}
        for key, kind in self.kinds.items():
            if key not in fine.tracks:
                continue
            columns = []
            for which in range(WIDTH[kind]):
                values = [value for value in fine.column(key, which, places) if value == value]
                if not values:
                    break
                if kind != GAUGE:
                    columns.append(values[-1])
                elif which == 0:
                    columns.append(min(values))
                elif which == 4:
                    columns.append(max(values))
                else:
                    columns.append(sum(values) / len(values))
            else:
                rows[key] = tuple(columns)
        return rows

    def ring(self, step_s: float) -> Ring:
        """The finest ring whose step is at least this one, else the coarsest."""
        return next((ring for ring in self.rings if ring.step_s >= step_s), self.rings[-1])
