"""A run whose tasks cannot begin, because others hold all CPUs and may keep them.

These are actors, ranks, and trials that wait for the very rows of the run. Such a run would wait for ever. When nothing
of it has gone on for a while, tasks that wait take no CPU. As many run so at a time as the consumer of the run has
CPUs: they share those that others hold. That ends when a task has a CPU again.
Work that lacks anything else than a CPU, or that no node could ever run, waits on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hpc.data.exec.operators import Operator
from hpc.data.exec.pool import ActorSet
from hpc.data.exec.stall import Free, needs, wants
from hpc.data.exec.work import Actor, Work, WorkState

#: After so long without progress a run shares CPUs; a run does it sooner in a process where one has done so before.
PATIENCE_S, SOON_S = 1.0, 0.1
#: The same where some node seems to have room: what is free may be kept for others, as in placement groups.
DOUBT_S = 10.0
_LITTLE = 1e-6


class Crowded:
    """What is done about it in one run. Pure: it looks at records, and calls ``share_task`` and ``share_actor``.

    most: so many tasks share CPUs at a time."""

    def __init__(
        self,
        ops: Sequence[Operator],
        pools: Mapping[int, ActorSet],
        share_task: Callable[[Work], None],
        share_actor: Callable[[Actor], None],
    ) -> None:
        self._ops, self._pools = ops, pools
        self._share_task, self._share_actor = share_task, share_actor
        self.most = 1
        self.patience_s = PATIENCE_S
        #: Tasks share CPUs now, and none has had one of its own since.
        self.is_on = False
        #: What to tell people, once in a run, and once for runs that follow each other.
        self.news = ""
        self._told = self._looked = False

    def is_due(self, now: float, progress_at: float) -> bool:
        """Whether it is to be looked at which work has a worker, and what the nodes have free."""
        if not self.is_on and now - progress_at < self.patience_s:
            return False
        return bool(self._tasks() or self._actors()) and self._active() < (self.most if self.is_on else 1)

    def looked(self) -> None:
        """That was looked at, just now: what it leads to is decided next."""
        self._looked = True

    def relieve(self, free: Free, now: float, progress_at: float) -> bool:
        """Have tasks and actors share CPUs, where nothing goes on otherwise. Whether there are any."""
        if not self._looked:
            return False
        self._looked = False
        # Work of its own that has a worker, which still imports what it needs, has the CPUs that the rest waits for.
        busy = self._active() + self._placed()
        if not self.is_due(now, progress_at) or busy >= (self.most if self.is_on else 1):
            return False
        still = now - progress_at
        actors = [actor for actor in self._actors() if self._helps(actor.op, free, still)]
        for actor in actors:
            self._tell(actor.op, free, still)
            self._share_actor(actor)
        room = self.most - busy
        tasks = [work for work in self._tasks() if self._helps(work.op, free, still)][: max(0, room)]
        for work in tasks:
            self._tell(work.op, free, still)
            self._share_task(work)
        return bool(tasks or actors)

    def begun(self, work: Work) -> None:
        """A piece of work has begun. If it has a CPU of its own, others may have one too."""
        if not work.shares and work.op.index not in self._pools and wants(work.op).get("CPU"):
            self.is_on = False

    def _active(self) -> int:
        """How much work goes on, or is about to without a CPU of its own."""
        return sum(
            not work.paused and (work.state is WorkState.BEGUN or work.shares)
            for op in self._ops
            for work in op.running.values()
        )

    def _placed(self) -> int:
        """How much work had a worker at the last look, and has not begun."""
        works = [work for op in self._ops for work in op.running.values()]
        return sum(work.placed and not work.shares and work.state is WorkState.SUBMITTED for work in works)

    def _tasks(self) -> list[Work]:
        """Tasks that have no worker yet: those nearest the consumer first, and then in the order of their parts."""
        found = []
        for op in reversed(self._ops):
            if op.index in self._pools or op.options.remote.get("max_retries") == 0 or not wants(op).get("CPU"):
                continue  # what may run once only may have begun just now
            here = [w for w in op.running.values() if w.state is WorkState.SUBMITTED and not (w.shares or w.placed)]
            found += sorted(here, key=lambda work: (not work.remakes, work.part.seq))
        return found

    def _actors(self) -> list[Actor]:
        """One actor that has no worker yet, of each pool that has none which is up."""
        found = []
        for pool in self._pools.values():
            waiting = [actor for actor in pool.actors.values() if not actor.is_up]
            some = len(waiting) < pool.count or any(one.shares or one.placed_at is not None for one in waiting)
            if waiting and not some and wants(pool.op).get("CPU"):
                found.append(waiting[0])
        return found

    def _helps(self, op: Operator, free: Free, still_s: float) -> bool:
        """Whether a CPU is all that it lacks."""
        wanted = wants(op)
        cpus = wanted.pop("CPU")
        fits = could = False
        for some, total in free:
            others = all(some.get(name, 0.0) + _LITTLE >= amount for name, amount in wanted.items())
            could = could or (others and total.get("CPU", 0.0) + _LITTLE >= cpus)
            fits = fits or (others and some.get("CPU", 0.0) + _LITTLE >= cpus)
        return could and (not fits or still_s >= DOUBT_S)

    def _tell(self, op: Operator, free: Free, still_s: float) -> None:
        self.is_on = True
        if self._told or self.patience_s < PATIENCE_S:  # a run before this one has told it
            return
        self._told = True
        most = max([0.0, *(some.get("CPU", 0.0) for some, _ in free)])
        why = f"since others hold the CPUs (it wants {needs(op)}, and no node has more than {most:g} CPU free)"
        if most + _LITTLE >= wants(op).get("CPU", 0.0):
            why = (
                f"although a node has {most:g} CPU free (it wants {needs(op)}): they may be kept for a placement group"
            )
        self.news = (
            f"{op.name}: nothing has begun for {still_s:.1f} s, {why}. Until a task begins on a CPU of its own, its "
            f"tasks take none, {self.most} at a time, and share those of the others. Leave CPUs for datasets to have "
            "more at a time: give trials, ranks and actors fewer"
        )
