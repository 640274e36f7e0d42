"""One bracket of HyperBand: how many trials may still run in it, up to where, and how far each of them is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


def ceil_of(count: float, factor: float) -> int:
    """How many of so many trials go on."""
    return math.ceil(count / factor)


@dataclass
class Bracket:
    """Trials that are halved together. Plain data: its fields are its state.

    size: it takes in, or keeps, so many trials. milestone: all of them run up to there, and the best ones further.
    halvings: so many are to come. reached: of each live trial, its time and its score (the larger the better), or None
    before its first result. ended: so many trials are live no more. begun: it has been halved. halving: it
    is being halved, and trials that end now do so for that. look_again: a trial has ended for which others wait.
    """

    size: int
    milestone: float
    halvings: int
    max_t: float
    factor: float
    stop_last: bool
    total_work: float
    reached: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    ended: int = 0
    begun: bool = False
    halving: bool = False
    look_again: bool = False
    done_work: float = 0.0

    def filled(self) -> bool:
        """Whether no trial can be added."""
        return len(self.reached) == self.size

    def add(self, trial_id: str) -> None:
        """Take in a trial."""
        self.reached[trial_id] = None

    def drop(self, trial_id: str) -> None:
        """It has ended."""
        self.ended += trial_id in self.reached
        self.reached.pop(trial_id, None)

    def note(self, trial_id: str, time: float, score: float) -> None:
        """A trial has come this far."""
        self.done_work += time - self.time(trial_id)
        self.reached[trial_id] = (time, score)

    def time(self, trial_id: str) -> float:
        """How far a trial has come."""
        found = self.reached[trial_id]
        return found[0] if found else 0

    def all_there(self) -> bool:
        """Whether all live trials have come to the milestone."""
        return all(found is not None and found[0] >= self.milestone for found in self.reached.values())

    def finished(self) -> bool:
        """Whether nothing is left to be done in it."""
        return self.stop_last and self.halvings == 0 and self.all_there()

    def goes_on(self, trial_id: str) -> bool:
        """Whether a trial need not wait for the others."""
        return (not self.stop_last and self.halvings == 0) or self.time(trial_id) < self.milestone

    def halve(self) -> tuple[list[str], list[str]]:
        """The trials that go on, up to the next milestone, and those that do not. NaN is the worst score."""
        if self.halvings == 0:
            return list(self.reached), []
        self.halvings -= 1
        self.size = ceil_of(self.size, self.factor)
        self.milestone = int(min(self.milestone * self.factor, self.max_t))
        ascending = sorted(self.reached, key=self._score)
        return ascending[-self.size :], ascending[: -self.size]

    def _score(self, trial_id: str) -> float:
        found = self.reached[trial_id]
        return -math.inf if found is None or math.isnan(found[1]) else found[1]

    def completion(self) -> float:
        """The share of its work that is done, from 0 to 1."""
        return 1.0 if self.finished() else min(self.done_work / self.total_work, 1.0)

    def __str__(self) -> str:
        share = f"completed={self.completion():.1%}"
        trials = f"{{live: {len(self.reached)}, ended: {self.ended}}}"
        return f"Bracket(Max Size (n)={self.size}, Milestone (r)={self.milestone}, {share}): {trials}"


def made(s: int, brackets: int, max_t: float, factor: float, stop_last: bool) -> Bracket | None:
    """Bracket s of a band with so many brackets; None: its trials would run for less than one unit of time."""
    size, first = math.ceil(brackets / (s + 1) * factor**s), int(max_t * factor ** (-s))
    if first == 0:
        return None
    work, count, span = 0, size, float(first)
    for _ in range(s + 1):
        work += int(count) * int(span)
        count = ceil_of(count, factor)
        span = int(min(span * factor, max_t - first))
    return Bracket(size, first, s, max_t, factor, stop_last, float(work))


def from_state(kept: dict[str, Any] | None) -> Bracket | None:
    """The bracket whose fields these are."""
    return None if kept is None else Bracket(**kept)
