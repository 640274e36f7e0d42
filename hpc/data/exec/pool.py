"""The actors of one operator: which of them gets the next call, and how many there should be."""

from __future__ import annotations

from hpc.data.exec.operators import Operator
from hpc.data.exec.work import Actor, Work
from hpc.data.plan.nodes import Pool

#: An actor without work ends after so long, where more than the least are there and more work may still come.
IDLE_S = 10.0


class ActorSet:
    """The actors of an operator, sorted by how many calls each has. A step costs the same however many there are."""

    def __init__(self, op: Operator, pool: Pool, queued: int | None) -> None:
        self.op = op
        self.pool = pool
        self.queued = pool.queued or queued or 2 * pool.concurrent
        self.actors: dict[int, Actor] = {}
        self.starting = 0
        #: Actors in a row that failed to begin.
        self.failed_inits = 0
        self._by_load: list[dict[int, Actor]] = [{} for _ in range(self.queued + 1)]
        self._next = 0
        self._reached_initial = False

    @property
    def count(self) -> int:
        """How many there are, or will be in a moment."""
        return len(self.actors)

    @property
    def has_idle(self) -> bool:
        """Whether a call would begin at once."""
        return any(self._by_load[: self.pool.concurrent])

    def new(self) -> Actor:
        """One more."""
        actor = Actor(self.op, self._next)
        self._next += 1
        self.actors[actor.number] = actor
        self.starting += 1
        return actor

    def up(self, actor: Actor, node: str, now: float) -> None:
        """It takes calls from now on."""
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
        """The one with the fewest calls, on this node if one of those is there; None if all have enough."""
        for level in self._by_load[: self.queued]:
            if level:
                first = next(iter(level.values()))
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

    def wanted(self, waiting: int, room: int) -> int:
        """How many more to start: ``waiting`` parts have no actor, and ``room`` more would fit beside the others."""
        pool, count = self.pool, self.count
        first = max(pool.least, pool.initial or 0)
        if count < pool.least or (count < first and not self._reached_initial):
            return first - count if not self._reached_initial else pool.least - count
        self._reached_initial = True
        if not waiting or self.starting or self.has_idle:
            return 0
        most = room if pool.most is None else min(room, pool.most - count)
        return max(0, min(most, count, -(-waiting // self.queued)))

    def spare(self, now: float, ended: bool) -> list[Actor]:
        """Actors to stop: without work for long, or at once where no more work will come."""
        idle = self._by_load[0]
        if not idle:
            return []
        if ended:
            return list(idle.values())
        most = self.count - self.pool.least
        return [one for one in idle.values() if now - one.idle_since >= IDLE_S][: max(0, most)] if most > 0 else []
