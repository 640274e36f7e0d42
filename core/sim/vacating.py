"""Nodes that are vacated in the simulation, and taken back before they are ended: nothing begins on them meanwhile."""

from __future__ import annotations

import random

from hpc.core.raylet.vacancy import vacancy
from hpc.core.sim.world import World

#: Which nodes are to be vacated changes so often.
TURN_S = 0.15


class Vacating:
    """Of one world: from time to time its launcher wishes for other nodes to be empty, and at the end for none."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.emptied = 0
        self._rng = random.Random(f"vacate {seed}")
        self._turn()

    def _turn(self) -> None:
        world = self.world
        numbers = [] if world.quiet else [n for n in world.nodes if n > 1 and self._rng.random() < 0.5]
        if world.head_up:
            world.head.upward.vacate(numbers)
            world.head.upward.report(world.clock.now)
        world.clock.after(TURN_S, self._turn)

    def look(self) -> None:
        """While the world goes on."""
        for number, node in self.world.nodes.items():
            leasing = node.machine.leasing
            if node.alive and leasing.closing.vacated:
                if leasing.leases or leasing.bundles.held:
                    self.world.broken.append(f"node {number} is vacated and has something leased")
                self.emptied += vacancy(leasing) == "empty"
