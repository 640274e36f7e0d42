"""The actors of one operator: which of them gets the next call, and how many there should be.

A pool grows by what waits for it: not by what runs, which is held by budgets that more actors would widen. It does not
where all that is left would be done before a new actor has begun, as fast as calls were served until now.
"""

from __future__ import annotations

from hpc.data.exec.operators import Operator
from hpc.data.exec.settings import RunSettings
from hpc.data.exec.work import Actor, Work
from hpc.data.plan.nodes import Pool

#: An actor without work ends after so long, where more than the least are there and more work may still come.
IDLE_S = 10.0


class ActorSet:
    """The actors of an operator, sorted by how many calls each has. A step costs the same however many there are."""

    def __init__(self, op: Operator, pool: Pool, queued: int | None, settings: RunSettings) -> None:
        self.op = op
        self.settings = settings
        self.pool = pool
        self.queued = pool.queued or queued or 2 * pool.concurrent
        self.actors: dict[int, Actor] = {}
        self.starting = 0
        #: Actors in a row that failed to begin.
        self.failed_inits = 0
        self._by_load: list[dict[int, Actor]] = [{} for _ in range(self.queued + 1)]
        self._next = 0
        self._reached_initial = False
        #: How long an actor took to begin, last; None: no one has yet.
        self.begin_s: float | None = None

    @property
    def count(self) -> int:
        """How many there are, or will be in a moment."""
        return len(self.actors)

    @property
    def has_idle(self) -> bool:
        """Whether a call would begin at once."""
        return any(self._by_load[: self.pool.concurrent])

    @property
    def calls(self) -> int:
        """The calls that its actors have."""
        return sum(load * len(level) for load, level in enumerate(self._by_load))

    def new(self, now: float) -> Actor:
        """One more."""
        actor = Actor(self.op, self._next)
        actor.idle_since = now
        self._next += 1
        self.actors[actor.number] = actor
        self.starting += 1
        return actor

    def up(self, actor: Actor, node: str, now: float) -> None:
        """It takes calls from now on."""
        self.begin_s = now - actor.idle_since
        actor.node, actor.is_up, actor.idle_since = node, True, now
        self.starting -= 1
        self.failed_inits = 0
        self._by_load[0][actor.number] = actor

    def gone(self, actor: Actor) -> list[Work]:
        """It has ended: what it had."""
        if self.actors.pop(actor.number, None) is None:
            return []
        if actor.is_up:
            self._by_load[len(actor.work)].pop(actor.number, None)
        else:
            self.starting -= 1
        work, actor.work = list(actor.work.values()), {}
        return work

    def choose(self, near: str) -> Actor | None:
        """The one with the fewest calls, on this node if one of those is there; None if all have enough. Of those that
        have none it is the one that had some last: so the others are without work for long, and may end."""
        for load, level in enumerate(self._by_load[: self.queued]):
            if level:
                first = next(iter(level.values()) if load else reversed(level.values()))
                if not near or first.node == near:
                    return first
                return next((one for one in level.values() if one.node == near), first)
        return None

    def give(self, actor: Actor, work: Work) -> None:
        """A call goes to it."""
        load = len(actor.work)
        actor.work[work.number] = work
        self._by_load[load].pop(actor.number)
        self._by_load[load + 1][actor.number] = actor
        work.actor = actor.number

    def done(self, work: Work, now: float) -> None:
        """A call has ended."""
        actor = self.actors.get(-1 if work.actor is None else work.actor)
        if actor is None or actor.work.pop(work.number, None) is None:
            return
        load = len(actor.work)
        self._by_load[load + 1].pop(actor.number)
        self._by_load[load][actor.number] = actor
        actor.idle_since = now

    def wanted(self, waiting: int, room: int, part_s: float = 0.0, ended: bool = False) -> int:
        """How many more to start: ``waiting`` parts have no actor, and ``room`` more would fit beside the others. A
        part takes ``part_s``; ``ended``: no more parts will come."""
        pool, count, use = self.pool, self.count, self.settings
        first = max(pool.least, pool.initial or 0)
        if count < pool.least or (count < first and not self._reached_initial):
            return first - count if not self._reached_initial else pool.least - count
        self._reached_initial = True
        if not waiting or self.starting or self.has_idle:
            return 0
        calls = self.calls + waiting
        if calls < use.grow_at * count * pool.concurrent:
            return 0
        if ended and self.begin_s is not None and 0 < part_s * calls / (count * pool.concurrent) < self.begin_s:
            return 0
        most = room if pool.most is None else min(room, pool.most - count)
        if use.grow_by is not None:
            most = min(most, use.grow_by)
        return max(0, min(most, count, -(-waiting // self.queued)))

    def spare(self, now: float, ended: bool) -> list[Actor]:
        """Actors to stop: without work for long, while few of the others work; or at once where no more will come."""
        idle = self._by_load[0]
        if not idle:
            return []
        if ended:
            return list(idle.values())
        most, share = self.count - self.pool.least, self.settings.shrink_at * self.pool.concurrent
        if most <= 0 or not any(now - one.idle_since >= IDLE_S for one in idle.values()):
            return []
        calls = self.calls
        # The n-th one ends if few work of what is there before it ends.
        while most > 0 and calls > share * (self.count - most + 1):
            most -= 1
        return [one for one in idle.values() if now - one.idle_since >= IDLE_S][:most]

    def waits_for_least(self) -> bool:
        """Whether fewer are up than there must be at least."""
        return self.count - self.starting < self.pool.least
