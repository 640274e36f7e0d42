"""Which CPUs are next to devices, of those that a node was granted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hpc.core.accelerators.base import Device

#: The CPUs of each NUMA node of a machine.
NumaNodes = Mapping[int, frozenset[int]]


def homes(devices: Sequence[Device], nodes: NumaNodes) -> list[int]:
    """The NUMA nodes that have these devices, where they are known."""
    found: dict[int, None] = {}
    for device in devices:
        if device.numa_node >= 0:
            found[device.numa_node] = None
        else:
            found.update(dict.fromkeys(node for node, cpus in nodes.items() if cpus.intersection(device.cpus)))
    return [*found]


def cpus_near(
    devices: Sequence[Device],
    granted: Collection[int],
    share: int,
    nodes: NumaNodes,
    distances: Mapping[int, Mapping[int, int]],
) -> frozenset[int]:
    """The granted CPUs that a process with these devices runs on, at least as many as its `share` of them.

    Next to a device are the CPUs that it names itself, else those of its NUMA node. Where these are fewer than the
    share, CPUs of further nodes come to them, the nearest first. `distances`: from node to node. Where nothing is
    known, or nothing near was granted, that is all that was granted.
    """
    there = frozenset(granted)
    near: frozenset[int] = frozenset()
    for device in devices:
        near |= frozenset(device.cpus) or nodes.get(device.numa_node, frozenset())
    near &= there
    if not near:
        return there
    own = homes(devices, nodes)

    def distance(node: int) -> int:
        return min((distances.get(home, {}).get(node, 1 << 30) for home in own), default=1 << 30)

    for node in sorted(nodes, key=lambda node: (distance(node), node)):
        if len(near) >= share:
            return near
        near |= nodes[node] & there
    return near if len(near) >= share else there
