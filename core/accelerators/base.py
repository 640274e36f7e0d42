"""An accelerator of a node as plain data, whatever its vendor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct


class Device(Struct, frozen=True):
    """One device that this node was granted.

    id: what the vendor's visibility variable takes: an index, a UUID or the name of a MIG instance. resource: the name
    under which tasks ask for it ("GPU", "TPU", ...). numa_node: -1 where it is not known. links: ids of the devices of
    this node that it reaches without going through the host (NVLink, xGMI). cpus: the machine's CPUs next to it.
    """

    id: str
    resource: str
    kind: str = ""
    memory_bytes: int = 0
    numa_node: int = -1
    links: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()


def ids_by_resource(devices: Iterable[Device]) -> dict[str, tuple[str, ...]]:
    """The ids of the devices under the name of their resource, in their order."""
    found: dict[str, list[str]] = {}
    for device in devices:
        found.setdefault(device.resource, []).append(device.id)
    return {resource: tuple(ids) for resource, ids in found.items()}


def offered(granted: Sequence[Device], resource: str, wanted: float | None) -> tuple[Device, ...]:
    """The devices with as many of one resource as the user said: the first that were granted, then invented indices."""
    if wanted is None:
        return tuple(granted)
    own = [device for device in granted if device.resource == resource][: int(wanted)]
    ids = {device.id for device in own}
    spare = [str(i) for i in range(int(wanted) + len(ids)) if str(i) not in ids]
    own += [Device(i, resource) for i in spare[: int(wanted) - len(own)]]
    return (*own, *(device for device in granted if device.resource != resource))
