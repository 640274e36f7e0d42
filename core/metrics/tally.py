"""What one process counts: the tasks that it ran, folded from their events many at a time, and what its sources tell.

A source is a part of the process that keeps metrics (`hpc.util.metrics`): it says what has changed since it was asked
last. Of events there may be 250,000 a second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hpc.core.metrics.merge import MAX_SETS, OTHER, Merged
from hpc.core.metrics.sample import HISTOGRAM, Sample, counted, fits
from hpc.core.metrics.table import TASK_BOUNDS_S, TASK_SECONDS, TASKS_FINISHED
from hpc.core.wire import INLINE, STORED, ProcessMetrics

#: How often a process tells its raylet, if anything has changed.
TELL_S = 2.0
#: The kinds of results that are no errors; the first, of most tasks, is 0.
GOOD = (INLINE, STORED)
#: The longest name of a task that is told.
MAX_NAME = 120

Source = Callable[[], list[Sample]]
#: The sources of this process.
sources: list[Source] = []

_BOUNDS_US = [round(bound * 1e6) for bound in TASK_BOUNDS_S]
RANGES = len(_BOUNDS_US) + 1
_NO_LONGER = [0] * (RANGES - 1)
#: Most tasks of a program that has very many end within the first bound.
SHORTEST_US = _BOUNDS_US[0]


class Tally:
    """One process's counts since it told last."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        self.times: dict[str, tuple[list[int], float]] = {}
        self._names: dict[str, None] = {}
        self._due = 0.0
        self._dropped = 0
        self._told: dict[str, float] = {}

    def fold(self, events: Sequence[Any]) -> None:
        """Count these events of tasks, of which each is one once (as `hpc.core.events.rows` has them).

        Most of a program that has very many are alike: of one name, short, and with a small result. These cost 46 ns
        each. Rejected: a look at each part of all of them (67), and numpy (140: its code is cold when it is needed)."""
        if not events:
            return
        first, longest, sum_us, odd = events[0][2], SHORTEST_US, 0, []
        for event in events:
            run_us = event[4]
            if run_us > longest or event[5] or event[2] is not first:
                odd.append(event)
            else:
                sum_us += run_us
        if len(odd) < len(events):
            self._add(first, 0, [len(events) - len(odd), *_NO_LONGER], sum_us)
        by_name: dict[str, list[Any]] = {}
        for event in odd:
            by_name.setdefault(event[2], []).append(event)
        for name, events in by_name.items():
            kinds, us = [event[5] for event in events], sorted([event[4] for event in events])
            ends = [bisect_right(us, bound) for bound in _BOUNDS_US]
            bins = [end - begin for begin, end in zip([0, *ends], [*ends, len(us)])]
            self._add(name, len(us) - sum(map(kinds.count, GOOD)), bins, sum(us))

    def _add(self, name: str, failed: int, bins: list[int], sum_us: float) -> None:
        name = self._known(name)
        good = sum(bins) - failed
        for outcome, count in (("failed", failed), ("ok", good)):
            if count:
                self.ended[name, outcome] += count
        before, total = self.times.get(name, ([0] * RANGES, 0.0))
        self.times[name] = ([a + b for a, b in zip(before, bins)], total + sum_us / 1e6)

    def _known(self, name: str) -> str:
        """The name under which a task counts: there is room for some."""
        name = name[:MAX_NAME]
        if name in self._names:
            return name
        if len(self._names) < MAX_SETS - 1:
            self._names[name] = None
            return name
        self._dropped += 1
        return OTHER

    def is_due(self, now: float) -> bool:
        """Whether it is time to tell."""
        return now >= self._due

    def news(self, now: float, gauges: Sequence[Sample] = ()) -> ProcessMetrics | None:
        """What has changed since it was told last; None if nothing has."""
        self._due = now + TELL_S
        told = Merged()
        for (name, outcome), count in self.ended.items():
            told.add(counted(TASKS_FINISHED, count, ("name", name, "outcome", outcome)))
        for name, (bins, total) in self.times.items():
            told.add(Sample(TASK_SECONDS, HISTOGRAM, ("name", name), total, sum(bins), bins=bins, bounds=TASK_BOUNDS_S))
        self.ended.clear()
        self.times.clear()
        for sample in gauges:
            if self._told.get(sample.name, 0.0) != sample.total:
                self._told[sample.name] = sample.total
                told.add(sample)
        for sample in (sample for source in sources for sample in source()):
            if fits(sample):  # a raylet would not take it, and a tag can be longer than a message may be
                told.add(sample)
            else:
                told.dropped += 1
        dropped, self._dropped = self._dropped + told.dropped, 0
        return ProcessMetrics(list(told.samples.values()), dropped) if told.samples or dropped else None
