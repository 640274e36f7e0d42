"""Asynchronous sampling and learning as a machine: runners and learners go on side by side, and neither waits long.

What holds staleness down: a runner is asked again only while few fragments are outstanding; how few adapts
(`Throttle`). So learners that are the bottleneck get fragments that are about one version old, and runners that are the
bottleneck are not held. New weights also come in the middle of a fragment (`Push`). Nothing that has come is dropped.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hpc.rllib.flow.machine import (
    Command,
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
    those that it began with are older by so many versions; 0 for never. ``broadcast_interval``: the newest version goes
    to runners after so many updates."""

    batch_steps: int
    in_flight: int = 1
    queue: int = 2
    push_lag: int = 0
    broadcast_interval: int = 1


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
        self._updating: dict[int, tuple[int, int]] = {}
        """number: (fragments, steps)"""
        self._number = 0
        self._throttle = Throttle()
        self._fragment_steps = 0.0
        self.version = 0
        self.published = 0

    @property
    def held_fragments(self) -> int:
        """Fragments that have come, and are not trained with yet."""
        return len(self._ready) + sum(fragments for fragments, _ in self._updating.values())

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
        return self._go_on()

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
        return self._go_on()

    def _arrived(self, event: SampleDone) -> None:
        self.pool.answer(event.runner, event.request)
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
        fragments, steps = self._updating.pop(event.number)
        if event.is_lost:
            self.tally.updates_lost += 1
            self.tally.fragments_lost_with_learners += fragments
        else:
            self.tally.updates += 1
            self.tally.fragments_trained += fragments
            self.tally.steps_trained += steps
            self.version += 1
        self._adapt()
        commands: list[Command] = []
        if self.version - self.published >= self.settings.broadcast_interval:
            self.published = self.version
            if self.settings.push_lag:
                late = self.pool.behind(self.published, self.settings.push_lag)
                commands.extend(Push(runner, self.published) for runner in late)
        return commands + self._go_on()

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

    def _go_on(self) -> list[Command]:
        commands: list[Command] = []
        while self.ready_steps >= self.settings.batch_steps and len(self._updating) < self.settings.queue:
            commands.append(self._update())
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

    def _update(self) -> Update:
        requests: list[int] = []
        steps = 0
        while steps < self.settings.batch_steps:
            request, its_steps, version = self._ready.popleft()
            self.tally.note_lag(self.version + len(self._updating) - version, its_steps)
            requests.append(request)
            steps += its_steps
        self.ready_steps -= steps
        self._number += 1
        self._updating[self._number] = (len(requests), steps)
        return Update(self._number, tuple(requests))
