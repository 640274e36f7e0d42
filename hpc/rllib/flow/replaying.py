"""Replay as a machine: fragments go to shards, learners draw from them, and so much is trained for each step sampled.

The ratio is held by a credit. Each step that is stored after learning has started earns ``intensity`` steps of
training; each batch that is drawn spends its steps. Without credit nothing is drawn; with much of it runners wait.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hpc.rllib.flow.machine import (
    Command,
    Draw,
    Drawn,
    Drop,
    Event,
    Learn,
    Pool,
    RunnerDied,
    RunnerUp,
    Sample,
    SampleDone,
    SampleFailed,
    ShardDied,
    ShardUp,
    Store,
    Stored,
    StoreFailed,
    Tally,
    Throttle,
    UpdateDone,
)

#: Fragments on their way to a shard; more wait here.
STORES = 4


@dataclass(frozen=True)
class ReplaySettings:
    """``batch_steps``: of a batch that is drawn. ``intensity``: steps trained for each step sampled. ``starts``: steps
    that shards hold, or did, before learning begins. ``in_flight``: requests of a runner. ``draws``: batches drawn
    ahead. ``sync_steps``: a runner gets new weights when it has sampled so many steps with the old ones."""

    batch_steps: int
    intensity: float = 1.0
    starts: int = 0
    in_flight: int = 2
    draws: int = 3
    sync_steps: int = 0


@dataclass
class _Shard:
    held: int = 0
    storing: int = 0
    is_empty: bool = False
    """Whether its last draw found too few steps; until it takes more, it is not asked."""


class Replaying:
    """Runners, shards and learners go on side by side."""

    def __init__(self, settings: ReplaySettings, runners: tuple[int, ...] = (), shards: tuple[int, ...] = ()) -> None:
        if settings.batch_steps < 1 or settings.intensity <= 0 or settings.draws < 1:
            raise ValueError(f"a batch has steps, the intensity is above 0, and one draw or more is made: {settings}")
        self.settings = settings
        self.pool = Pool(runners, settings.in_flight)
        self.tally = Tally()
        self._shards: dict[int, _Shard] = {shard: _Shard() for shard in shards}
        self._waiting: deque[int] = deque()
        self._storing: dict[int, tuple[int, int]] = {}
        """request: (shard, steps)"""
        self._steps: dict[int, int] = {}
        self._drawing: dict[int, int] = {}
        """draw: shard"""
        self._drawn: deque[tuple[int, int, int]] = deque()
        """(shard, draw, steps)"""
        self._learning: dict[int, tuple[int, int]] = {}
        """number: (shard, steps)"""
        self._since: dict[int, int] = {}
        """runner: steps sampled since it got weights"""
        self._next_draw = self._number = self._turn = 0
        self._credit = 0.0
        self._throttle = Throttle()
        self._fragment_steps = 0.0
        self.stored_steps = 0
        self.counted_steps = 0
        self.version = 0

    @property
    def ratio(self) -> float:
        """Steps trained for each step that was stored since learning has started."""
        return self.tally.steps_trained / self.counted_steps if self.counted_steps else 0.0

    @property
    def held_fragments(self) -> int:
        """Fragments that have come, and are not stored yet."""
        return len(self._waiting) + len(self._storing)

    @property
    def has_started(self) -> bool:
        """Whether enough is stored to learn."""
        return self.stored_steps >= self.settings.starts

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
            self._runner_died(event.runner)
        elif isinstance(event, RunnerUp):
            self.pool.add(event.runner)
            self._since.pop(event.runner, None)
        elif isinstance(event, ShardUp):
            self._shards.setdefault(event.shard, _Shard())
        elif isinstance(event, ShardDied):
            return self._shard_died(event.shard) + self._go_on()
        elif isinstance(event, Stored):
            self._stored(event)
        elif isinstance(event, StoreFailed):
            self._store_failed(event)
        elif isinstance(event, Drawn):
            self._have_drawn(event)
        elif isinstance(event, UpdateDone):
            self._updated(event)
        return self._go_on()

    def take_over(self, held: dict[int, int]) -> None:
        """Shards hold so many steps from an earlier run: learning may begin sooner."""
        for shard, steps in held.items():
            self._shards[shard].held = steps
        self.stored_steps += sum(held.values())

    # -------------------------------------------------------------- what has happened

    def _arrived(self, event: SampleDone) -> None:
        if not self.pool.answer(event.runner, event.request):
            self.tally.fragments_lost -= 1  # it was counted as such when the runner failed
        self.tally.fragments_received += 1
        self.tally.steps_received += event.steps
        self._steps[event.request] = event.steps
        seen = self._fragment_steps
        self._fragment_steps = event.steps if not seen else seen + (event.steps - seen) / 8
        self._waiting.append(event.request)
        if event.runner in self._since:
            self._since[event.runner] += event.steps

    def _runner_died(self, runner: int) -> None:
        if runner not in self.pool:
            return
        self.tally.runners_died += 1
        self.tally.fragments_lost += len(self.pool.remove(runner))

    def _shard_died(self, shard: int) -> list[Command]:
        """Batches that have been drawn are here, and are trained with. What was on its way to it is lost."""
        if self._shards.pop(shard, None) is None:
            return []
        lost = [request for request, (where, _) in self._storing.items() if where == shard]
        for request in lost:
            del self._storing[request]
        self.tally.fragments_lost_with_shards += len(lost)
        for draw in [draw for draw, where in self._drawing.items() if where == shard]:
            del self._drawing[draw]
            self._credit += self.settings.batch_steps
        return [Drop(request) for request in lost]

    def _stored(self, event: Stored) -> None:
        if event.request not in self._storing:
            return
        _, steps = self._storing.pop(event.request)
        shard = self._shards[event.shard]
        shard.storing -= 1
        shard.held = event.held
        shard.is_empty = False
        if self.has_started:
            self.counted_steps += steps
            self._credit += steps * self.settings.intensity
        self.stored_steps += steps
        self.tally.fragments_trained += 1

    def _store_failed(self, event: StoreFailed) -> None:
        if self._storing.pop(event.request, None) is not None:
            self._shards[event.shard].storing -= 1
            self.tally.fragments_lost_with_shards += 1

    def _have_drawn(self, event: Drawn) -> None:
        if self._drawing.pop(event.draw, None) is None:
            return
        self._credit += self.settings.batch_steps - event.steps
        if event.steps:
            self._drawn.append((event.shard, event.draw, event.steps))
        elif event.shard in self._shards:
            self._shards[event.shard].is_empty = True

    def _updated(self, event: UpdateDone) -> None:
        _, steps = self._learning.pop(event.number)
        if event.is_lost:
            self.tally.updates_lost += 1
            self._credit += steps
            return
        self.tally.updates += 1
        self.tally.steps_trained += steps
        self.version += 1
        if self._ahead or self._credit >= self.settings.batch_steps:
            self._throttle.found_work(self._least)
        elif not self._learning:
            self._throttle.found_none(self.pool.asked < self.pool.room, self._least, self._most)

    # -------------------------------------------------------------- what is next

    def _go_on(self) -> list[Command]:
        return [*self._stores(), *self._learns(), *self._draws(), *self._samples()]

    def _stores(self) -> list[Command]:
        commands: list[Command] = []
        while self._waiting:
            open_ones = [(row.storing, shard) for shard, row in self._shards.items() if row.storing < STORES]
            if not open_ones:
                break
            least = min(storing for storing, _ in open_ones)
            shard = self._in_turn([shard for storing, shard in open_ones if storing == least])
            request = self._waiting.popleft()
            self._storing[request] = (shard, self._steps.pop(request))
            self._shards[shard].storing += 1
            commands.append(Store(shard, request))
        return commands

    def _learns(self) -> list[Command]:
        commands: list[Command] = []
        while self._drawn and len(self._learning) < 2:
            shard, draw, steps = self._drawn.popleft()
            self._number += 1
            self._learning[self._number] = (shard, steps)
            commands.append(Learn(self._number, shard, draw))
        return commands

    def _draws(self) -> list[Command]:
        commands: list[Command] = []
        batch = self.settings.batch_steps
        while self._credit >= batch and self._ahead < self.settings.draws:
            full = [shard for shard, row in self._shards.items() if row.held and not row.is_empty]
            if not full:
                break
            shard = self._in_turn(full)
            self._next_draw += 1
            self._drawing[self._next_draw] = shard
            self._credit -= batch
            commands.append(Draw(shard, self._next_draw))
        return commands

    @property
    def _ahead(self) -> int:
        return len(self._drawing) + len(self._drawn)

    @property
    def _per_fragment(self) -> float:
        """Steps of training that a fragment earns; those of a batch while none has come."""
        return max(1.0, self._fragment_steps * self.settings.intensity) if self._fragment_steps else self._batch

    @property
    def _batch(self) -> float:
        return float(self.settings.batch_steps)

    @property
    def _outstanding(self) -> float:
        """Fragments that are asked for, on their way, or stored and not made up for by training yet."""
        return self.pool.asked + self.held_fragments + self._credit / self._per_fragment

    @property
    def _least(self) -> float:
        """Two fragments, or as many as earn two batches."""
        return max(2.0, 2 * self._batch / self._per_fragment)

    @property
    def _most(self) -> float:
        return self.pool.room + self._least * 4

    def _samples(self) -> list[Command]:
        if len(self._waiting) > STORES * max(1, len(self._shards)):
            return []
        commands: list[Command] = []
        outstanding, allowed = self._outstanding, self._throttle.allowed(self._least)
        for runner in self.pool.free():
            is_idle = not self.pool.asked and not self.held_fragments and not self._ahead and not self._learning
            if self.has_started and outstanding + 1 > allowed and not is_idle:
                break
            outstanding += 1
            takes = self._since.get(runner, self.settings.sync_steps) >= self.settings.sync_steps
            if takes:
                self._since[runner] = 0
            version = self.version if takes else 0
            request = self.pool.ask(runner, version)
            self.tally.fragments_requested += 1
            commands.append(Sample(runner, request, version=version, takes_weights=takes))
        return commands

    def freshen(self) -> None:
        """Weights may have come from outside: each runner gets them with its next request."""
        self._since.clear()

    def _in_turn(self, shards: list[int]) -> int:
        self._turn += 1
        return sorted(shards)[self._turn % len(shards)]
