"""What one process counts: the tasks that it ran, and what its sources tell.

A source is a part of the process that keeps metrics (`hpc.util.metrics`): it says what has changed since it was asked
last.

Of tasks there may be 250,000 a second. So the thread that runs tasks adds the time of a short one to a sum (`Counted`):
70 ns for each. All other times are appended to a list, which is looked at each tenth of a second: 120 ns each, in all.
Rejected: to count from the events, many at a time. That took 140 to 390 ns for each, as they are in no cache by then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise

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
#: Most tasks of a program that has very many end within the first bound.
SHORTEST_US = _BOUNDS_US[0]


class Counted:
    """The tasks of one name. ``add`` takes the time of one that has ended, in microseconds, from any thread. Before,
    the kind of its result is appended to ``odd``, if that is not 0. The rest has those that were looked at and not
    told.

    The thread that runs tasks may count one in ``short`` instead, and its time in ``short_us``. That is for those of
    kind 0 up to `SHORTEST_US`. Both only grow, so that another thread may read them at any time.
    """

    __slots__ = ("_seen", "_seen_us", "_us", "add", "bins", "name", "odd", "short", "short_us", "sum_us")

    def __init__(self, name: str) -> None:
        self.name = name
        self._us: list[int] = []
        self.add = self._us.append
        self.odd: list[int] = []
        self.bins = [0] * RANGES
        self.sum_us = 0
        self.short = self.short_us = 0
        self._seen = self._seen_us = 0

    def note(self, us: int, kind: int) -> None:
        """One has ended, on any thread."""
        if kind:
            self.odd.append(kind)
        self.add(us)

    def settle(self) -> None:
        """Look at what was appended. More may be appended meanwhile."""
        us = self._us[:]
        if not us:
            return
        del self._us[: len(us)]
        self.sum_us += sum(us)
        if max(us) <= SHORTEST_US:  # as it mostly is of tasks that are many
            self.bins[0] += len(us)
            return
        longer = sorted([one for one in us if one > SHORTEST_US])
        ends = [bisect_right(longer, bound) for bound in _BOUNDS_US] if longer else []
        self.bins[0] += len(us) - len(longer)
        for at, (begin, end) in enumerate(pairwise([*ends, len(longer)]), 1):
            self.bins[at] += end - begin

    def news(self) -> list[Sample]:
        """What was not told yet."""
        self.settle()
        short, short_us = self.short, self.short_us
        self.bins[0] += short - self._seen
        self.sum_us += short_us - self._seen_us
        self._seen, self._seen_us = short, short_us
        bins, count = self.bins, sum(self.bins)
        if not count:
            return []
        odd = self.odd[:count]  # the time of the last one may not have come yet
        del self.odd[: len(odd)]
        failed = len(odd) - sum(map(odd.count, GOOD))
        labels = ("name", self.name[:MAX_NAME])
        found = [Sample(TASK_SECONDS, HISTOGRAM, labels, self.sum_us / 1e6, count, bins=bins, bounds=TASK_BOUNDS_S)]
        for outcome, some in (("failed", failed), ("ok", count - failed)):
            if some:
                found.append(counted(TASKS_FINISHED, some, (*labels, "outcome", outcome)))
        self.bins, self.sum_us = [0] * RANGES, 0
        return found


class Tally:
    """One process's counts since it told last."""

    def __init__(self) -> None:
        self._by_name: dict[str, Counted] = {}
        self._due = 0.0
        self._dropped = 0
        self._told: dict[str, float] = {}

    def named(self, name: str) -> Counted:
        """The tasks of a name: there is room for some."""
        found = self._by_name.get(name)
        if found is None:
            if len(self._by_name) >= MAX_SETS - 1 and name != OTHER:
                self._dropped += 1
                return self.named(OTHER)
            found = self._by_name[name] = Counted(name)
        return found

    def note(self, name: str, run_us: int, kind: int) -> None:
        """A task or call has ended, on any thread: how long it took, and the kind of its first result."""
        self.named(name).note(run_us, kind)

    def settle(self) -> None:
        """Look at what was appended, before it is much."""
        for one in list(self._by_name.values()):
            one.settle()

    def is_due(self, now: float) -> bool:
        """Whether it is time to tell."""
        return now >= self._due

    def news(self, now: float, gauges: Sequence[Sample] = ()) -> ProcessMetrics | None:
        """What has changed since it was told last; None if nothing has."""
        self._due = now + TELL_S
        told = Merged()
        for one in list(self._by_name.values()):
            told.add_all(one.news())
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
