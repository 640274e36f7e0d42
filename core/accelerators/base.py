"""An accelerator of a node as plain data, whatever its vendor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

#: Resources whose instances can be told apart and are handed out by id.
INSTANCE_RESOURCES = ("GPU", "TPU", "NPU", "HPU", "neuron_cores", "RBLN", "FURIOSA", "MBLT", "TTNPU")

#: Resources of which several processes may share one instance, and how many of another may be asked for at a time.
SHARED = ("GPU", "NPU")
TPU_COUNTS = (1, 2, 4, 8)


class Device(Struct, frozen=True):
    """One device that this node was granted.

    id: what the vendor's visibility variable takes: an index, a UUID or the name of a MIG instance. resource: the name
    under which tasks ask for it ("GPU", "TPU", ...). numa_node: -1 where it is not known. links: ids of the devices of
    this node that it reaches without going through the host (NVLink, xGMI). cpus: the machine's CPUs next to it.
    vendor: by whose variable it is shown (`core/accelerators/table.py`); empty for one that only the user spoke of.
    fault: what the vendor says is wrong with it.
    """

    id: str
    resource: str
    kind: str = ""
    memory_bytes: int = 0
    numa_node: int = -1
    links: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()
    vendor: str = ""
    fault: str = ""


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


def check_request(resource: str, amount: float) -> None:
    """Raises ValueError for an amount that no task or actor can have of an accelerator."""
    if resource == "TPU" and amount and amount not in TPU_COUNTS:
        raise ValueError(f"a task or actor can have {TPU_COUNTS} TPU chips of a host, not {amount:g}")
    if resource in INSTANCE_RESOURCES and resource not in SHARED and amount % 1:
        raise ValueError(f"{resource} are not shared: the amount must be a whole number, not {amount:g}")


def parse_ids(value: str) -> tuple[str, ...]:
    """The ids of a list like "0,1", "0-3", "GPU-8a5f…", "MIG-…"; -1 or none ends it, as for CUDA."""
    ids: list[str] = []
    for part in value.split(","):
        part = part.strip()
        if not part or part.startswith("-") or part.lower() in ("none", "nodevfiles", "void"):
            break
        span = re.fullmatch(r"(\d{1,4})-(\d{1,4})", part)
        ids += [str(i) for i in range(int(span[1]), int(span[2]) + 1)] if span else [part]
    return tuple(dict.fromkeys(ids))
