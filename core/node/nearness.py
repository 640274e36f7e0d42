"""A worker with devices runs on the CPUs next to them, and has its memory there.

It never runs on CPUs that the node was not granted, and not on fewer than it was given. A worker without devices is
left alone. Where somebody has set a memory policy for the whole node (numactl), that stays.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping, Sequence

from hpc.core.accelerators.base import Device
from hpc.core.node import numa
from hpc.core.node.settings import switch, text
from hpc.core.node.spec import NodeSpec
from hpc.core.policy.near import cpus_near, homes


def nearness_of(spec: NodeSpec) -> Nearness | None:
    """What sees to that for a worker of this node; None where no device says where it is, or nobody wants it."""
    known = any(device.cpus or device.numa_node >= 0 for device in spec.devices)
    if not known or not switch("device_affinity", spec.config, os.environ):
        return None
    return Nearness(spec.devices, text("probe_root", spec.config, os.environ))


class Nearness:
    """Where this process runs. devices: of its node. root: of the file system that says which CPUs are where."""

    def __init__(self, devices: Sequence[Device], root: str = "/") -> None:
        self._devices = {(device.resource, device.id): device for device in devices}
        self._root = root
        self._granted = frozenset(os.sched_getaffinity(0))
        self._cpus = self._granted
        self._memory: tuple[int, ...] = ()

    def use(self, instances: Mapping[str, Collection[str]], cpus: int) -> None:
        """From now on the process holds these devices, and so many CPUs."""
        held = [
            self._devices[resource, ident]
            for resource, ids in instances.items()
            for ident in ids
            if (resource, ident) in self._devices
        ]
        if held:
            nodes = numa.nodes(self._root)
            wanted = cpus_near(held, self._granted, cpus, nodes, numa.distances(self._root))
            memory = tuple(node for node in homes(held, nodes) if node in numa.allowed_nodes())
        else:
            wanted, memory = self._granted, ()
        if wanted != self._cpus:
            self._cpus = wanted
            run_on(wanted)
        if memory != self._memory:
            self._prefer(memory)

    def _prefer(self, memory: tuple[int, ...]) -> None:
        try:
            if not self._memory and numa.memory_policy() != numa.DEFAULT:
                return
            numa.prefer_memory(memory)
        except OSError as error:
            # A kernel without policies, or without one for several nodes. What is forbidden the zygote has said.
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
                raise
            return
        self._memory = memory


def run_on(cpus: Collection[int]) -> None:
    """All threads of this process run on these CPUs, and so do those that they start."""
    for task in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(task), cpus)
        except OSError as error:
            # It has ended, or its CPUs were taken from the node meanwhile: the kernel knows better.
            if error.errno not in (errno.ESRCH, errno.EINVAL):
                raise
