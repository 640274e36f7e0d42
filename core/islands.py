"""Which devices of a node belong together, and which of them a task gets.

Devices that reach each other without the host (NVLink, xGMI) form an island; where no links are known the devices of a
NUMA node do. Several devices come from one island where one has enough. The smallest such is taken, so that the others
stay whole for requests that need more. Within it those are chosen that are linked most among themselves.
Rejected: trying all sets. Sixteen devices have 12,870 sets of eight.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from hpc.core.accelerators.base import Device


class Islands:
    """The devices of one resource on one node, in the order of the node."""

    def __init__(self, devices: Sequence[Device]) -> None:
        here = {device.id: device for device in devices}
        self._links: dict[str, set[str]] = {ident: set() for ident in here}
        for device in devices:
            for other in device.links:
                if other in here and other != device.id:
                    self._links[device.id].add(other)
                    self._links[other].add(device.id)
        self._numa = {ident: device.numa_node for ident, device in here.items()}
        self._island = _connected(self._links)

    def choose(self, free: Sequence[str], count: int) -> list[str]:
        """Which of the free devices are taken, as many as `count`. There must be as many."""
        if count >= len(free):
            return list(free)
        chosen = self._by_island(free, count)
        order = {ident: at for at, ident in enumerate(free)}
        return sorted(chosen, key=order.__getitem__)

    def _by_island(self, free: Sequence[str], count: int) -> list[str]:
        islands: dict[int, list[str]] = {}
        for ident in free:
            islands.setdefault(self._island.get(ident, -1), []).append(ident)
        linked = any(self._links.get(ident) for ident in free)
        return _best_fit([*islands.values()] if linked else [list(free)], count, self._within)

    def _within(self, members: list[str], count: int) -> list[str]:
        """The devices of an island that are linked most among themselves."""
        if count == len(members):
            return members
        there = set(members)
        degrees = {len(self._links.get(ident, set()) & there) for ident in members}
        if len(degrees) == 1 and degrees <= {0, len(members) - 1}:  # all alike: what is near in memory
            nodes: dict[int, list[str]] = {}
            for ident in members:
                nodes.setdefault(self._numa.get(ident, -1), []).append(ident)
            return _best_fit([*nodes.values()], count, lambda some, number: some[:number])
        best: list[str] = []
        most = (-1, -1, 0)
        for start in members:
            chosen = self._grown(start, members, count)
            value = self._value(chosen, there)
            if value > most:
                best, most = chosen, value
        return best

    def _grown(self, start: str, members: Sequence[str], count: int) -> list[str]:
        """A set that begins with one device and takes, again and again, the one with most links into it."""
        chosen = [start]
        left = [ident for ident in members if ident != start]
        while len(chosen) < count:
            at = max(
                range(len(left)),
                key=lambda i: (
                    len(self._links[left[i]].intersection(chosen)),
                    sum(self._numa[left[i]] == self._numa[ident] for ident in chosen),
                    -len(self._links[left[i]].intersection(left)),
                    -i,
                ),
            )
            chosen.append(left.pop(at))
        return chosen

    def _value(self, chosen: Collection[str], members: Collection[str]) -> tuple[int, int, int]:
        """How good a set is: links within, pairs in one NUMA node, and few links cut to those that stay."""
        within = sum(len(self._links[ident].intersection(chosen)) for ident in chosen)
        near = sum(self._numa[one] == self._numa[two] for one in chosen for two in chosen)
        cut = sum(len(self._links[ident].intersection(members)) for ident in chosen) - within
        return within, near, -cut


def islands_of(devices: Iterable[Device]) -> dict[str, Islands]:
    """The islands of each resource of a node."""
    found: dict[str, list[Device]] = {}
    for device in devices:
        found.setdefault(device.resource, []).append(device)
    return {resource: Islands(there) for resource, there in found.items()}


def _best_fit(parts: list[list[str]], count: int, within: Callable[[list[str], int], list[str]]) -> list[str]:
    """From the smallest part that has enough. Where none has, the largest are used up first."""
    chosen: list[str] = []
    while count:
        fitting = [part for part in parts if len(part) >= count]
        part = min(fitting, key=len) if fitting else max(parts, key=len)
        parts = [other for other in parts if other is not part]
        taken = within(part, min(count, len(part)))
        chosen += taken
        count -= len(taken)
    return chosen


def _connected(links: dict[str, set[str]]) -> dict[str, int]:
    """The island of each device: those that are linked, also by way of others, have one number."""
    island: dict[str, int] = {}
    for number, start in enumerate(links):
        waiting = [start] if start not in island else []
        while waiting:
            ident = waiting.pop()
            if ident not in island:
                island[ident] = number
                waiting += links[ident]
    return island
