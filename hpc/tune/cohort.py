"""All trials of an experiment, by status and in the order in which they wait. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator
from itertools import islice

from hpc.tune.trial import Status, Trial


class Cohort:
    """The trials: all, those that have not finished, and those that wait for room, first come first."""

    def __init__(self) -> None:
        self.all: dict[str, Trial] = {}
        self.live: dict[str, Trial] = {}
        self.pending: dict[str, Trial] = {}
        self.paused: dict[str, Trial] = {}

    def add(self, trial: Trial) -> None:
        """Take in a trial with the status that it has; one that was there comes behind the others."""
        self.remove(trial)
        self.all[trial.trial_id] = trial
        self.move(trial, trial.status)

    def remove(self, trial: Trial) -> None:
        """Forget it."""
        for trials in (self.all, self.live, self.pending, self.paused):
            trials.pop(trial.trial_id, None)

    def move(self, trial: Trial, status: Status) -> None:
        """Give it this status."""
        name = trial.trial_id
        self.pending.pop(name, None)
        self.paused.pop(name, None)
        trial.status = status
        if trial.is_finished():
            self.live.pop(name, None)
            return
        self.live.setdefault(name, trial)
        if status == Trial.PENDING:
            self.pending[name] = trial
        elif status == Trial.PAUSED:
            self.paused[name] = trial

    def first_waiting(self, busy: Collection[str]) -> Trial | None:
        """The first pending trial that is not among the busy ones, else the first such paused one."""
        for trials in (self.pending, self.paused):
            for name, trial in trials.items():
                if name not in busy:
                    return trial
        return None

    def ready(self, busy: Collection[str], most: int) -> Iterator[Trial]:
        """The first so many pending trials that are not among the busy ones."""
        return islice((trial for name, trial in self.pending.items() if name not in busy), most)

    def shapes(self) -> Counter[Hashable]:
        """How many trials that wait have each shape of room."""
        return Counter(
            trial.placement_group_factory for trials in (self.pending, self.paused) for trial in trials.values()
        )
