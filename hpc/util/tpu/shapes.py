"""What a slice of TPUs is made of: generations, topologies, how many hosts and chips, and the parts of a slice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

#: Generations, as the labels and resources of nodes name them.
GENERATIONS = ("v2", "v3", "v4", "v5p", "v5litepod", "v6e", "v7x")
#: A generation whose chips have one core, and whose hosts may have up to 8 chips. Others have 2 and 4.
SMALL = ("v5litepod", "v6e")
CHIPS_PER_HOST = 4
#: The topologies of a `SMALL` generation that one host has.
ON_ONE_HOST = ("1x1", "2x2", "2x4")
#: The port at which slices that work together find their coordinator.
COORDINATOR_PORT = "8081"


def _cubes(x: int, y: int, z: int) -> frozenset[str]:
    """Larger topologies of three dimensions, in steps of four chips."""
    return frozenset(f"{a}x{b}x{c}" for a, b, c in product(range(4, x + 1, 4), range(4, y + 1, 4), range(4, z + 1, 4)))


_FLAT = frozenset(("1x1", "2x2", "2x4", "2x8", "4x4", "4x8", "8x8", "8x16", "16x16"))
_FEW = frozenset(("2x2x1", "2x2x2", "2x2x4", "2x4x4"))
#: The topologies that each generation comes in.
TOPOLOGIES: Mapping[str, frozenset[str]] = {
    "v2": frozenset(("4x4", "4x8", "8x8", "8x16", "16x16")),
    "v3": frozenset(("4x4", "4x8", "8x8", "8x16", "16x16", "16x32", "32x32")),
    "v4": _FEW | _cubes(12, 12, 16),
    "v5p": _FEW | _cubes(16, 16, 24),
    "v5litepod": _FLAT,
    "v6e": _FLAT,
    "v7x": _FEW | {"4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16"},
}
#: How the hosts of a topology are laid out, slowest axis first, smallest topology first: what parts of a slice are
#: counted by. Larger ones cannot be divided yet.
HOST_GRIDS: Mapping[str, tuple[int, ...]] = {
    "2x2": (1, 1), "2x4": (1, 2), "4x4": (2, 2), "4x8": (2, 4), "8x8": (4, 4), "8x16": (4, 8), "16x16": (8, 8),
    "2x2x1": (1, 1, 1), "2x2x2": (1, 1, 2), "2x2x4": (1, 1, 4), "2x4x4": (1, 2, 4), "4x4x4": (2, 2, 4),
    "4x4x8": (2, 2, 8), "4x8x8": (2, 4, 8), "8x8x8": (4, 4, 8), "8x8x16": (4, 4, 16), "8x16x16": (4, 8, 16),
    "16x16x16": (8, 8, 16), "16x16x24": (8, 8, 24),
}  # fmt: skip


def get_tpu_version_from_type(accelerator_type: str) -> str:
    """The generation of a kind: "TPU-V6E" and "v6e" are v6e, "tpu7x" is v7x. ValueError for what is none."""
    kind = accelerator_type.lower()
    version = kind.removeprefix("tpu-") if kind.startswith("tpu-") else kind.replace("tpu", "v", 1)
    if version not in GENERATIONS:
        raise ValueError(
            f"{accelerator_type!r} is no TPU: there are {', '.join(GENERATIONS)}, also as TPU-V4 and so on"
        )
    return version


def dimensions(topology: str) -> tuple[int, ...]:
    """The chips along each axis: "2x4" is (2, 4)."""
    try:
        return tuple(int(part) for part in topology.strip().lower().split("x"))
    except ValueError:
        raise ValueError(f"{topology!r} is no topology: it has the chips along each axis, as 2x4 or 2x2x2") from None


def chips_of(topology: str) -> int:
    """How many chips a topology has."""
    return math.prod(dimensions(topology))


def pod_type_of(topology: str, version: str) -> str:
    """The type of a slice, by its cores: 2x2x2 of v4 is a v4-16."""
    return f"{version}-{chips_of(topology) * (1 if version in SMALL else 2)}"


def chips_per_host(topology: str, version: str) -> int:
    """How many chips one host of the slice has, unless its owner says otherwise."""
    if version in SMALL and topology.strip().lower() in ON_ONE_HOST:
        return chips_of(topology)
    return CHIPS_PER_HOST


def check_topology(topology: str, version: str) -> None:
    """ValueError where the generation does not come in this topology."""
    if topology not in TOPOLOGIES[version]:
        raise ValueError(f"Invalid accelerator topology: {topology!r} for accelerator version: {version!r}")


def get_tpu_worker_resources(
    topology: str,
    accelerator_type: str,
    resources_per_worker: Mapping[str, float] | None = None,
    num_slices: int = 1,
    chips_per_vm: int | None = None,
    tpu_resource_per_chip: int | None = None,
) -> tuple[int, dict[str, float]]:
    """How many workers slices have room for, and what each holds: by default the chips of one host, and one CPU.

    chips_per_vm: how many chips a host has, where that is not as usual. tpu_resource_per_chip: how many of the resource
    TPU a chip is (``RAY_TPU_RESOURCE_PER_CHIP``, else 1). Raises ValueError where the chips cannot be divided so."""
    per_chip = per_chip_of(tpu_resource_per_chip)
    version = get_tpu_version_from_type(accelerator_type)
    on_host = chips_per_host(topology, version) if chips_per_vm is None else chips_per_vm
    if on_host <= 0:
        raise ValueError(f"chips_per_vm must be positive, not {on_host}")
    in_slice = chips_of(topology) * per_chip
    each = dict(resources_per_worker or {})
    each.setdefault("CPU", 1)
    each.setdefault("TPU", on_host * per_chip)
    if each["TPU"] <= 0:
        raise ValueError(f"TPU resources must be positive, not {each['TPU']:g}")
    if in_slice % each["TPU"]:
        raise ValueError(
            f"the {in_slice} TPUs of a slice {topology} cannot be divided by {each['TPU']:g} for each worker"
        )
    return int(in_slice * num_slices // each["TPU"]), each


def get_tpu_num_slices_for_workers(
    topology: str,
    accelerator_type: str,
    num_workers: int,
    resources_per_worker: Mapping[str, float] | None = None,
    tpu_resource_per_chip: int | None = None,
) -> int:
    """How many slices so many workers need; 1 where the arguments make no sense."""
    if not topology or not accelerator_type:
        return 1
    try:
        each, _ = get_tpu_worker_resources(
            topology, accelerator_type, resources_per_worker, tpu_resource_per_chip=tpu_resource_per_chip
        )
    except (ValueError, TypeError, AttributeError):
        return 1
    return max(1, math.ceil(num_workers / each)) if each else 1


def get_tpu_coordinator_env_vars(
    coordinator_address: str, num_slices: int, slice_id: int, coordinator_port: str = COORDINATOR_PORT
) -> dict[str, str]:
    """The variables by which slices that work together find each other."""
    return {
        "MEGASCALE_COORDINATOR_ADDRESS": coordinator_address,
        "MEGASCALE_PORT": coordinator_port,
        "MEGASCALE_NUM_SLICES": str(num_slices),
        "MEGASCALE_SLICE_ID": str(slice_id),
    }


def per_chip_of(given: int | None) -> int:
    """How many of the resource TPU a chip is: what was given, else what the environment says."""
    import os

    value = os.environ.get("RAY_TPU_RESOURCE_PER_CHIP", "1") if given is None else str(given)
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"a chip must count as 1 or more of the resource TPU, not {value}")
    return int(value)


# ---------------------------------------------------------------- parts of a slice


def grid_of(topology: str) -> tuple[int, ...]:
    """How the hosts of a topology are laid out; ValueError where it cannot be divided."""
    try:
        return HOST_GRIDS[topology]
    except KeyError:
        raise ValueError(f"{topology!r} cannot be divided: known are {', '.join(HOST_GRIDS)}") from None


def parents_of(part: str, topologies: set[str]) -> list[str]:
    """The topologies, of those that are there, of which the part is one; smallest first."""
    own = grid_of(part)
    found = [
        (math.prod(grid), topology)
        for topology in topologies - {part}
        if len(grid := HOST_GRIDS.get(topology, ())) == len(own) and all(a >= b for a, b in zip(grid, own))
    ]
    return [topology for _, topology in sorted(found)]


def host_at(coordinates: list[list[int]], parent: str) -> int:
    """The place of a host in its slice, by the coordinates of its chips, which are x, y and z."""
    grid, chips = grid_of(parent), dimensions(parent)
    place = 0
    for axis, (hosts, along) in enumerate(zip(grid, chips)):
        at = len(grid) - 1 - axis  # coordinates name the fastest axis first
        least = min((c[at] for c in coordinates if len(c) > at), default=0)
        index = least // max(1, along // hosts)
        if index >= hosts:
            raise ValueError(f"a chip at {coordinates} is outside of {parent}")
        place = place * hosts + index
    return place


def part_at(place: int, part: str, parent: str) -> int:
    """The number of the part, of all that the slice can be divided into, in which the host at a place is."""
    number, left = 0, place
    steps = []
    for hosts in reversed(grid_of(parent)):
        left, index = divmod(left, hosts)
        steps.append(index)
    for index, hosts, own in zip(reversed(steps), grid_of(parent), grid_of(part)):
        number = number * (hosts // own) + index // own
    return number
