"""Synchronous sampling as a machine: so many pieces from the same weights, whichever runners do them."""

from __future__ import annotations

import math
from collections import deque

from hpc.rllib.flow.machine import (
    Command,
    Event,
    Pool,
    RunnerDied,
    RunnerUp,
    Sample,
    SampleDone,
    SampleFailed,
    Tally,
)

#: A piece is given to a second runner when it takes this many times as long as the middle one of those that are done,
STRAGGLES = 3.0
#: and at least this many seconds.
STRAGGLES_S = 1.0
#: A piece that failed this often fails the round: the environment is broken, not the runner.
MOST_FAILURES = 3


class Round:
    """One round of ``pieces``. A runner that is done with a piece gets the next one, so the fast ones do more. A piece
    of a runner that has died is done by another one: the round loses that runner's fragment, and no time beside it.

    With ``steps`` more pieces follow where those had fewer steps in all. The pool outlives rounds: the answer to a
    request of an earlier one is stale. So is the second answer to a piece that two runners did."""

    def __init__(self, pool: Pool, tally: Tally, pieces: int, now: float = 0.0, steps: int = 0) -> None:
        self._pool, self._tally = pool, tally
        self._wanted_steps, self._steps = steps, 0
        self._left: deque[int] = deque(range(pieces))
        self._open: dict[int, tuple[int, int, float]] = {}
        """request: (piece, runner, when it was asked)"""
        self._done: dict[int, int] = {}
        """piece: the request that answered it"""
        self._failures: dict[int, int] = {}
        self._times: list[float] = []
        self.pieces, self.now = pieces, now
        self.is_broken = False

    @property
    def is_done(self) -> bool:
        """Whether all pieces are there."""
        return len(self._done) == self.pieces

    @property
    def waits_for(self) -> list[int]:
        """Requests that are not answered."""
        return list(self._open)

    @property
    def is_stuck(self) -> bool:
        """Whether pieces are missing, and there is no runner that could do them."""
        return not self.is_done and not self._open and not len(self._pool)

    def begin(self) -> list[Command]:
        """The first requests."""
        return self._ask()

    def step(self, event: Event, now: float) -> list[Command]:
        """What is to be done after this event."""
        self.now = now
        if isinstance(event, SampleDone):
            self._answered(event)
        elif isinstance(event, SampleFailed):
            self._failed(event)
        elif isinstance(event, RunnerDied):
            self._died(event.runner)
        elif isinstance(event, RunnerUp):
            self._pool.add(event.runner)
        return self._ask()

    def look(self, now: float) -> list[Command]:
        """Some time has gone by: pieces that take too long are given to runners that have nothing to do."""
        self.now = now
        return self._ask()

    def accepted(self) -> list[int]:
        """The requests whose answers make up the round, in the order of the pieces."""
        return [self._done[piece] for piece in sorted(self._done)]

    def _answered(self, event: SampleDone) -> None:
        if not self._pool.answer(event.runner, event.request):
            self._tally.fragments_lost -= 1  # it was counted as such when the runner failed
        self._tally.fragments_received += 1
        self._tally.steps_received += event.steps
        piece, _, asked = self._open.pop(event.request, (-1, 0, 0.0))
        if piece < 0 or piece in self._done:
            self._tally.fragments_stale += 1
            self._tally.steps_stale += event.steps
            return
        self._done[piece] = event.request
        self._times.append(self.now - asked)
        self._tally.fragments_trained += 1
        self._tally.steps_trained += event.steps
        self._steps += event.steps
        if self.is_done and self._steps < self._wanted_steps:
            self._add_pieces()

    def _add_pieces(self) -> None:
        mean = max(1.0, self._steps / self.pieces)
        more = math.ceil((self._wanted_steps - self._steps) / mean)
        self._left.extend(range(self.pieces, self.pieces + more))
        self.pieces += more

    def _failed(self, event: SampleFailed) -> None:
        if not self._pool.answer(event.runner, event.request):
            return
        self._tally.fragments_lost += 1
        piece, _, _ = self._open.pop(event.request, (-1, 0, 0.0))
        if piece < 0:
            return
        self._failures[piece] = self._failures.get(piece, 0) + 1
        if self._failures[piece] >= MOST_FAILURES:
            self.is_broken = True
        self._again(piece)

    def _died(self, runner: int) -> None:
        if runner not in self._pool:
            return
        self._tally.runners_died += 1
        for request in self._pool.remove(runner):
            self._tally.fragments_lost += 1
            piece, _, _ = self._open.pop(request, (-1, 0, 0.0))
            if piece >= 0:
                self._again(piece)

    def _again(self, piece: int) -> None:
        elsewhere = any(piece == other for other, _, _ in self._open.values())
        if piece not in self._done and not elsewhere:
            self._left.appendleft(piece)

    def _ask(self) -> list[Command]:
        if self.is_done:
            return []
        commands: list[Command] = []
        for runner in self._pool.free():
            piece = self._next_piece(runner)
            if piece is None:
                break
            request = self._pool.ask(runner)
            self._open[request] = (piece, runner, self.now)
            self._tally.fragments_requested += 1
            commands.append(Sample(runner, request, piece=piece))
        return commands

    def _next_piece(self, runner: int) -> int | None:
        if self._left:
            return self._left.popleft()
        slow = self._slow_s()
        once = {}
        for piece, at, asked in self._open.values():
            once[piece] = None if piece in once else (at, asked)
        for piece, where in sorted(once.items()):
            if where is not None and where[0] != runner and self.now - where[1] >= slow and piece not in self._done:
                return piece
        return None

    def _slow_s(self) -> float:
        """How long a piece may take. Without one that is done, nobody knows."""
        if not self._times:
            return float("inf")
        middle = sorted(self._times)[len(self._times) // 2]
        return max(STRAGGLES_S, STRAGGLES * middle)
