"""Nodes that leave in the simulation: what they say to be safe is, and with the time for it they move all they have."""

from __future__ import annotations

from hpc.core.ids import owner_of
from hpc.core.sim.world import World
from hpc.core.wire import STORED

#: In so long, without deaths and with little lost on the way, a node has moved what it has.
MOVING_S, LITTLE = 0.3, 0.1


class LeavingChecks:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.moved = 0
        self._drained: dict[int, float] = {}
        self._trouble_at = 0.0  # when something was last in the way
        self._alive = len(world.nodes)
        world.before_end = self._before_end

    def look(self) -> None:
        """While the world goes on."""
        world, now = self.world, self.world.clock.now
        alive = sum(node.alive for node in world.nodes.values())
        if alive != self._alive:
            self._alive, self._trouble_at = alive, now
        for number in world.draining:
            if number not in self._drained:
                self._drained[number] = self._trouble_at = now
            if world.nodes[number].alive:
                self._check_safe(number)

    def _check_safe(self, number: int) -> None:
        """What the node says to be safe is elsewhere, is kept there, and its owner knows it."""
        world = self.world
        for ident, move in world.nodes[number].machine.departure.moves.items():
            to, owner = world.nodes.get(move.to), world.processes.get(owner_of(ident))
            if move.place != "safe" or to is None or not to.alive or owner is None or not owner.alive:
                continue
            entry, kept = owner.machine.state.entries.get(ident), to.machine.store.stored.get(ident)
            result = entry.result if entry is not None else None
            if result is None or result.kind != STORED:
                continue
            if kept is None or kept.copy or move.to not in result.nodes:
                world.broken.append(f"object {ident.hex()[24:]} is not safe on node {move.to}")

    def _before_end(self, number: int) -> None:
        world = self.world
        departure = world.nodes[number].machine.departure
        self._check_safe(number)
        self.moved += departure.moved_objects
        time_s = world.clock.now - max(self._trouble_at, self._drained.get(number, world.clock.now))
        others = [node for node in world.nodes.values() if node.alive and node.number not in world.draining]
        left = self._wanted(number)
        if time_s > MOVING_S and world.loss < LITTLE and others and left and not world.small:
            world.broken.append(f"node {number} had the time, and has not moved {left}")

    def _wanted(self, number: int) -> list[str]:
        """What is on the node alone, and held by an owner elsewhere."""
        found = []
        for ident in self.world.nodes[number].machine.store.stored:
            owner = self.world.processes.get(owner_of(ident))
            entry = owner.machine.state.entries.get(ident) if owner is not None and owner.alive else None
            result = entry.result if entry is not None and owner_of(ident).node != number else None
            if result is not None and result.kind == STORED and result.nodes == (number,):
                found.append(ident.hex()[24:])
        return found
