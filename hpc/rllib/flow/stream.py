"""Asynchronous sampling and learning as a machine: runners and learners go on side by side, and neither waits long.

What holds staleness down: a runner is asked again only while few fragments are outstanding; how few adapts
(`Throttle`). So learners that are the bottleneck get fragments that are about one version old, and runners that are the
bottleneck are not held. New weights also come in the middle of a fragment (`Push`). Nothing that has come is dropped.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hpc.rllib.flow.machine import (
    Command,
    Drop,
    Event,
    Pool,
    Push,
    RunnerDied,
    RunnerUp,
    Sample,
    SampleDone,
    SampleFailed,
    Tally,
    Throttle,
    Update,
    UpdateDone,
)


@dataclass(frozen=True)
class StreamSettings:
    """``batch_steps``: of an update. ``in_flight``: requests that a runner may have. ``queue``: updates that learners
    may have, the one they work on counted. ``push_lag``: weights go to a runner in the middle of its fragment when
    its own are older by so many versions; 0 for never. ``broadcast_interval``: the newest version goes
    to runners after so many updates. ``uses``: updates with each batch, of which up to ``ring`` are kept for that."""

    batch_steps: int
    in_flight: int = 1
    queue: int = 2
    push_lag: int = 0
    broadcast_interval: int = 1
    uses: int = 1
    ring: int = 8


@dataclass
class _Batch:
    """Fragments that are trained with together: (request, steps, version) of each."""

    fragments: list[tuple[int, int, float]] = field(default_factory=list)
    steps: int = 0
    left: int = 1
    is_trained: bool = False

    def requests(self) -> tuple[int, ...]:
        """The requests that they answer."""
        return tuple(request for request, _, _ in self.fragments)


class Stream:
    """Runners sample all the time, and learners update with what comes, in the order in which it comes."""

    def __init__(self, settings: StreamSettings, runners: tuple[int, ...] = (), tally: Tally | None = None) -> None:
        if settings.batch_steps < 1 or settings.queue < 1 or settings.broadcast_interval < 1:
            raise ValueError(f"an update has steps, a queue has room, and an interval is 1 or more: {settings}")
        self.settings = settings
        self.pool = Pool(runners, settings.in_flight)
        self.tally = tally if tally is not None else Tally()
        self._ready: deque[tuple[int, int, float]] = deque()
        """(request, steps, version), the oldest first"""
        self.ready_steps = 0
        self._updating: dict[int, _Batch] = {}
        self._again: deque[_Batch] = deque()
        """Batches that have been trained with, or are now, and will be again"""
        self._since_fresh = 0
        self.is_paused = False
        """While it is, no update begins; runners go on"""
        self._number = 0
        self._throttle = Throttle()
        self._fragment_steps = 0.0
        self.version = 0
        self.published = 0

    @property
    def held_fragments(self) -> int:
        """Fragments that have come, and are not trained with yet."""
        fresh = (len(batch.fragments) for batch in self._updating.values() if not batch.is_trained)
        return len(self._ready) + sum(fresh)

    @property
    def is_holding(self) -> bool:
        """Whether a runner waits for learners."""
        return self.pool.asked < self.pool.room

    @property
    def allowed(self) -> float:
        """How many fragments may be outstanding."""
        return self._throttle.allowed(2 * self._per_batch)

    def begin(self) -> list[Command]:
        """The first requests."""
        return self.go_on()

    def step(self, event: Event) -> list[Command]:
        """What is to be done after this event."""
        if isinstance(event, SampleDone):
            self._arrived(event)
        elif isinstance(event, SampleFailed):
            if self.pool.answer(event.runner, event.request):
                self.tally.fragments_lost += 1
        elif isinstance(event, RunnerDied):
            self._died(event.runner)
        elif isinstance(event, RunnerUp):
            self.pool.add(event.runner)
        elif isinstance(event, UpdateDone):
            return self._updated(event)
        return self.go_on()

    def _arrived(self, event: SampleDone) -> None:
        if not self.pool.answer(event.runner, event.request):
            self.tally.fragments_lost -= 1  # it was counted as such when the runner failed
        self.tally.fragments_received += 1
        self.tally.steps_received += event.steps
        self._ready.append((event.request, event.steps, event.version))
        self.ready_steps += event.steps
        seen = self._fragment_steps
        self._fragment_steps = event.steps if not seen else seen + (event.steps - seen) / 8

    def _died(self, runner: int) -> None:
        if runner not in self.pool:
            return
        self.tally.runners_died += 1
        self.tally.fragments_lost += len(self.pool.remove(runner))

    def _updated(self, event: UpdateDone) -> list[Command]:
        batch = self._updating.pop(event.number)
        if event.is_lost:
            self.tally.updates_lost += 1
        else:
            self.tally.updates += 1
            self.tally.steps_trained += batch.steps
            self.version += 1
        if not batch.is_trained:
            self._first_use(batch, event.is_lost)
        self._adapt()
        commands: list[Command] = []
        if not batch.left or event.is_lost:
            batch.left = 0
            commands.extend(Drop(request) for request in batch.requests())
            self._again = deque(one for one in self._again if one is not batch)
        if self.version - self.published >= self.settings.broadcast_interval:
            self.published = self.version
            if self.settings.push_lag:
                late = self.pool.behind(self.published, self.settings.push_lag)
                commands.extend(Push(runner, self.published) for runner in late)
        return commands + self.go_on()

    def _first_use(self, batch: _Batch, is_lost: bool) -> None:
        batch.is_trained = True
        if is_lost:
            self.tally.fragments_lost_with_learners += len(batch.fragments)
            self.tally.steps_lost_with_learners += batch.steps
        else:
            self.tally.fragments_trained += len(batch.fragments)

    def _adapt(self) -> None:
        """Learners have ended an update: was the next one ready?"""
        if self._updating or self.ready_steps >= self.settings.batch_steps:
            self._throttle.found_work(2 * self._per_batch)
        else:
            self._throttle.found_none(self.is_holding, 2 * self._per_batch, self._most)

    @property
    def _per_batch(self) -> float:
        """Fragments of a batch."""
        return max(1.0, self.settings.batch_steps / self._fragment_steps) if self._fragment_steps else 1.0

    @property
    def _most(self) -> float:
        """All that runners may be asked for, and all that learners may have."""
        return self.pool.room + (self._per_batch + 1) * self.settings.queue

    def go_on(self) -> list[Command]:
        """What can be done now."""
        commands: list[Command] = []
        while len(self._updating) < self.settings.queue and not self.is_paused:
            batch = self._next_batch()
            if batch is None:
                break
            commands.append(self._update(batch))
        outstanding = self.pool.asked + self.held_fragments
        for runner in self.pool.free():
            is_needed = not self._updating and not self.pool.asked
            if outstanding + 1 > self.allowed and not is_needed:
                break
            outstanding += 1
            request = self.pool.ask(runner, self.published)
            self.tally.fragments_requested += 1
            commands.append(Sample(runner, request, version=self.published))
        return commands

    def _next_batch(self) -> _Batch | None:
        """A fresh one and one that was trained with before, in turns where both are there."""
        idle = [batch for batch in self._again if batch.left and not self._is_updating(batch)]
        is_fresh_ready = self.ready_steps >= self.settings.batch_steps
        takes_fresh = self._since_fresh >= self.settings.uses - 1 and len(self._again) < self.settings.ring
        if is_fresh_ready and (takes_fresh or not idle):
            self._since_fresh = 0
            return self._fresh_batch()
        if not idle:
            return None
        self._since_fresh += 1
        return idle[0]

    def _is_updating(self, batch: _Batch) -> bool:
        return any(batch is other for other in self._updating.values())

    def _fresh_batch(self) -> _Batch:
        batch = _Batch(left=self.settings.uses)
        while batch.steps < self.settings.batch_steps:
            fragment = self._ready.popleft()
            batch.fragments.append(fragment)
            batch.steps += fragment[1]
        self.ready_steps -= batch.steps
        if batch.left > 1:
            self._again.append(batch)
        return batch

    def _update(self, batch: _Batch) -> Update:
        for _, steps, version in batch.fragments:
            self.tally.note_lag(self.version + len(self._updating) - version, steps)
        batch.left -= 1
        if not batch.left:
            self._again = deque(one for one in self._again if one is not batch)
        self._number += 1
        self._updating[self._number] = batch
        return Update(self._number, batch.requests())
