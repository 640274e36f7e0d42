"""What holds CPUs of the simulated nodes beside the run, and may keep them for ever."""

from __future__ import annotations

from typing import Any

from hpc.data.exec.work import Actor

#: The thread of a run wakes this often.
TICK_S = 0.5


class Others:
    """Every seventh world has some: all CPUs are theirs from the begin or from later on, for a while or for ever."""

    def __init__(self, world: Any, seed: int) -> None:
        self.world = world
        self.held = self.shared = 0
        self.waiting: list[Actor] = []
        self.are_there = seed % 7 == 6
        if self.are_there:
            draw = world.random
            world.machine.crowded.most = draw.randint(1, 3)
            world.later(draw.choice([0.0, 5.0]), lambda: self._hold(99))
            if draw.random() < 0.5:
                world.later(draw.choice([20.0, 200.0]), lambda: self._hold(0))
            world.later(TICK_S, self._tick)

    def _hold(self, count: int) -> None:
        self.held = count
        waiting, self.waiting = self.waiting, []
        for actor in waiting:
            self.start(actor)
        self.world.begin_queued()

    def _tick(self) -> None:
        self.world.later(TICK_S, self._tick)

    def start(self, actor: Actor) -> None:
        """An actor is started: at once, or when there is a CPU."""
        if self.held and actor.op.options.num_cpus and not actor.shares:
            self.waiting.append(actor)
            return
        actor.placed_at = self.world.now
        self.world.later(self.world.delay(1.0), lambda: self.world.actor_up(actor))

    def next_of(self, queue: list[Any]) -> Any:
        """The first task that may begin; None where there is none."""
        world = self.world
        for at, running in enumerate(queue):
            if running.over or running.work.shares or world.used + self.held < world.cpus:
                self.shared += running.work.shares
                return queue.pop(at)
        return None

    def look(self) -> None:
        """What the thread of a run does when it wakes."""
        world, machine = self.world, self.world.machine
        if self.are_there and machine.crowded.is_due(world.now, machine.progress_at):
            machine.free = [({"CPU": max(0, world.cpus - self.held - world.used)}, {"CPU": world.cpus})]
            machine.crowded.looked()
