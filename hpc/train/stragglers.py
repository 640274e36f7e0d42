"""Which ranks are slower than the others, from how much of the time each was at work. No I/O.

Ranks that wait for one another take equally long for a step. The slow one is the one that the others wait for: it is
at work while they wait. So each rank is sampled a few times a second: does it wait, in a collective or a report?
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

#: A window has so many samples of each rank at least; so many windows in a row must show the same.
WINDOW_SAMPLES, WINDOWS = 60, 3
#: A slow rank is at work so many times as long as the others' median, and for so much more of the time.
FACTOR, SHARE = 1.2, 0.1


class Straggler(NamedTuple):
    """A slow rank: the share of the time that it was at work, and the median of the others."""

    rank: int
    busy: float
    others: float

    @property
    def factor(self) -> float:
        """How many times as long as the others it works for the same."""
        return self.busy / self.others if self.others else float("inf")

    def words(self) -> str:
        """In words, without the rank."""
        return (
            f"was at work for {100 * self.busy:.0f} % of the time, and the others for {100 * self.others:.0f} %: "
            "they wait for it"
        )


def slow_ranks(busy: Mapping[int, float]) -> list[Straggler]:
    """The ranks that are slow in one window. ``busy``: the share of the time at work, by rank."""
    found = []
    for rank, mine in sorted(busy.items()):
        others = statistics.median(share for other, share in busy.items() if other != rank) if len(busy) > 1 else mine
        if mine - others >= SHARE and mine >= FACTOR * others:
            found.append(Straggler(rank, mine, others))
    return found


@dataclass
class Stragglers:
    """Counts windows, and names a rank once: when it was slow in the last `WINDOWS` of them."""

    _before: dict[int, tuple[int, int]] = field(default_factory=dict)
    _windows: deque[dict[int, Straggler]] = field(default_factory=lambda: deque(maxlen=WINDOWS))
    _named: set[int] = field(default_factory=set)

    def add(self, counts: Mapping[int, tuple[int, int]]) -> list[Straggler]:
        """``counts``: of each rank its samples until now, and those in which it waited. Returns ranks to be named."""
        if set(counts) != set(self._before):
            self._before = dict(counts)
            self._windows.clear()
            return []
        gone = {rank: (counts[rank][0] - n, counts[rank][1] - waited) for rank, (n, waited) in self._before.items()}
        if not gone or min(n for n, _ in gone.values()) < WINDOW_SAMPLES:
            return []
        self._before = dict(counts)
        self._windows.append({one.rank: one for one in slow_ranks({r: 1 - w / n for r, (n, w) in gone.items()})})
        if len(self._windows) < WINDOWS:
            return []
        always = set.intersection(*(set(window) for window in self._windows)) - self._named
        self._named |= always
        return [
            Straggler(
                rank,
                statistics.fmean(window[rank].busy for window in self._windows),
                statistics.fmean(window[rank].others for window in self._windows),
            )
            for rank in sorted(always)
        ]
