"""Parts of slices: some hosts of a larger slice that are wired together as a slice of their own would be.

Which host is where in a slice only its chips know. So the first caller who wants a part of a slice reserves all of it
for a moment. It asks each host and leaves the answers with the head, where later callers look.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import hpc
from hpc import spi
from hpc.util.placement_group import PlacementGroup, placement_group
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from hpc.util.tpu.shapes import (
    CHIPS_PER_HOST,
    SMALL,
    check_topology,
    chips_of,
    get_tpu_version_from_type,
    grid_of,
    host_at,
    parents_of,
    part_at,
)
from hpc.util.tpu.slices import (
    HEAD_TIMEOUT_S,
    SLICE_NAME,
    TOPOLOGY,
    WORKER_ID,
    SlicePlacementGroup,
    is_idle,
    remove_all,
    take_slice,
)

log = logging.getLogger(__name__)
SPACE = "tpu_subslice"
LOOK_S = 0.05
#: How long the head may take to say that a part is taken, so that the next caller looks at another one.
TAKEN_S = 1.0


class SubslicePlacementGroup:
    """A part of a slice that is reserved, a bundle on each of its hosts. `subslice_placement_group` makes them."""

    def __init__(
        self,
        placement_group: PlacementGroup,
        parent_topology: str,
        subslice_topology: str,
        subslice_index: int,
        slice_name: str,
        num_hosts: int,
        chips_per_host: int,
        bundle_resources: dict[str, float],
        head_placement_groups: list[PlacementGroup] | None = None,
        bundle_label_selectors: list[dict[str, str]] | None = None,
    ) -> None:
        self._group: PlacementGroup | None = placement_group
        self._heads = head_placement_groups or []
        self._parent_topology = parent_topology
        self._subslice_topology = subslice_topology
        self._subslice_index = subslice_index
        self._slice_name = slice_name
        self._num_hosts = num_hosts
        self._chips_per_host = chips_per_host
        self._bundle_resources = bundle_resources
        self._selectors = bundle_label_selectors or []

    @property
    def placement_group(self) -> PlacementGroup | None:
        """The group; None after `shutdown`."""
        return self._group

    @property
    def parent_topology(self) -> str:
        """The topology of the whole slice."""
        return self._parent_topology

    @property
    def subslice_topology(self) -> str:
        """The topology of the part."""
        return self._subslice_topology

    @property
    def subslice_index(self) -> int:
        """The number of the part, of all that the slice can be divided into."""
        return self._subslice_index

    @property
    def slice_name(self) -> str:
        """The name of the slice."""
        return self._slice_name

    @property
    def num_hosts(self) -> int:
        """The hosts of the part."""
        return self._num_hosts

    @property
    def chips_per_host(self) -> int:
        """How many chips each of them has."""
        return self._chips_per_host

    @property
    def bundle_resources(self) -> dict[str, float]:
        """What each bundle holds."""
        return self._bundle_resources

    @property
    def head_placement_groups(self) -> list[PlacementGroup]:
        """The groups that hold heads of slices."""
        return self._heads

    @property
    def bundle_label_selector(self) -> list[dict[str, str]]:
        """The labels that the node of each bundle must have."""
        return self._selectors

    def release_head_pgs(self) -> None:
        """Give the heads back. Twice does no harm."""
        heads, self._heads = self._heads, []
        remove_all(heads)

    def shutdown(self) -> None:
        """Give back all that is held. Twice does no harm."""
        group, self._group = self._group, None
        remove_all([group] if group is not None else [])
        self.release_head_pgs()


def subslice_placement_group(
    subslice_topology: str,
    accelerator_version: str,
    chips_per_vm: int | None = None,
    resources_per_bundle: dict[str, float] | None = None,
    strategy: str = "STRICT_SPREAD",
    name: str = "",
    lifetime: str | None = None,
    head_reservation_timeout_s: float | None = HEAD_TIMEOUT_S,
    subslice_index: int | None = None,
) -> SubslicePlacementGroup:
    """Reserve a part of a slice that is there, of the smallest that has an idle one.

    subslice_topology: of the part, as "2x4". accelerator_version: the generation, as "v6e". chips_per_vm: how many
    chips a host has, where that is not as usual. resources_per_bundle: by default the chips of one host, and one CPU.
    strategy, name, lifetime: as of a placement group. head_reservation_timeout_s: how long a slice that nobody has
    asked yet is waited for. subslice_index: this part of a slice and no other.

    Raises ValueError for what makes no sense, or where no slice could have such a part. Raises RuntimeError where none
    is idle, or where libtpu is missing on a host."""
    version, part = get_tpu_version_from_type(accelerator_version), subslice_topology.strip().lower()
    check_topology(part, version)
    if chips_per_vm is not None and chips_per_vm <= 0:
        raise ValueError(f"chips_per_vm must be positive, not {chips_per_vm}")
    there = {host.labels[TOPOLOGY] for host in spi.rooms() if TOPOLOGY in host.labels}
    parents = parents_of(part, there)
    if not parents:
        hint = "; use slice_placement_group for a whole slice" if part in there else ""
        raise ValueError(f"no slice that is there has a part {part}: there are {sorted(there) or 'none'}{hint}")
    while True:
        slices = _slices(parents)
        for slice_name, (parent, hosts) in slices.items():
            places = _known(slice_name)
            found = None if places is None else _idle_part(places, hosts, part, parent, subslice_index)
            if found is not None:
                break
        else:
            strangers = (s for s, (_, hosts) in slices.items() if _known(s) is None and all(map(is_idle, hosts)))
            slice_name = next(strangers, "")
            if not slice_name:
                raise RuntimeError(f"no idle part {part} in any slice of {', '.join(parents)}")
            parent = slices[slice_name][0]
            _ask_hosts(slice_name, parent, version, _chips(chips_per_vm, parent, version), head_reservation_timeout_s)
            continue
        break
    index, workers = found
    chips = _chips(chips_per_vm, parent, version)
    each = {"CPU": 1, "TPU": chips, **(resources_per_bundle or {})}
    selectors = [{SLICE_NAME: slice_name, WORKER_ID: worker} for worker in workers]
    group = placement_group([dict(each) for _ in workers], strategy, name, lifetime, bundle_label_selector=selectors)
    _wait(lambda: not any(is_idle(h) for h in _hosts(slice_name) if h.labels.get(WORKER_ID) in workers), TAKEN_S)
    return SubslicePlacementGroup(
        group, parent, part, index, slice_name, len(workers), chips, each, bundle_label_selectors=selectors
    )


def _chips(given: int | None, parent: str, version: str) -> int:
    total = chips_of(parent)
    return given or (total if version in SMALL and total <= 2 * CHIPS_PER_HOST else CHIPS_PER_HOST)


def _slices(parents: Sequence[str]) -> dict[str, tuple[str, list[spi.NodeRoom]]]:
    """The slices of these topologies, in the order of these, with their hosts."""
    found: dict[str, tuple[str, list[spi.NodeRoom]]] = {}
    rooms = spi.rooms()
    for parent in parents:
        for host in rooms:
            if host.labels.get(TOPOLOGY) == parent and SLICE_NAME in host.labels:
                found.setdefault(host.labels[SLICE_NAME], (parent, []))[1].append(host)
    return found


def _known(slice_name: str) -> dict[str, int] | None:
    """The place of each host in the slice, by its number; None: nobody has asked yet."""
    said = spi.kv_get(SPACE, slice_name)
    return None if said is None else json.loads(said)


def _idle_part(
    places: dict[str, int], hosts: Sequence[spi.NodeRoom], part: str, parent: str, wanted: int | None
) -> tuple[int, list[str]] | None:
    """The first part all of whose hosts are idle: its number, and theirs in order."""
    idle = {host.labels.get(WORKER_ID) for host in hosts if is_idle(host)}
    members: dict[int, list[str]] = {}
    for worker, place in places.items():
        members.setdefault(part_at(place, part, parent), []).append(worker)
    for index, workers in sorted(members.items()):
        whole = len(workers) == math.prod(grid_of(part))
        if whole and idle.issuperset(workers) and wanted in (None, index):
            return index, sorted(workers, key=int)
    return None


def _ask_hosts(slice_name: str, parent: str, version: str, chips: int, timeout_s: float | None) -> None:
    """Reserve the whole slice, ask each host where its chips are, leave that with the head, and give all back."""
    name, head = take_slice(parent, version, timeout_s, slice_name)
    whole: SlicePlacementGroup | None = None
    try:
        if _known(name) is not None:  # somebody else asked while this one waited for the slice
            return
        count = chips_of(parent) // chips
        whole = SlicePlacementGroup(
            parent, version, chips_per_vm=chips, head_reservation_timeout_s=timeout_s,
            bundle_label_selector=[{SLICE_NAME: name} for _ in range(count)],
        )  # fmt: skip
        group = whole.placement_group
        assert group is not None
        try:
            hpc.get(group.ready(), timeout=timeout_s)
        except hpc.exceptions.GetTimeoutError:
            raise TimeoutError(f"the slice {name} was idle, and is not any more") from None
        ask = hpc.remote(num_cpus=0)(_coordinates)
        said = hpc.get(
            [
                ask.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, index)).remote()
                for index in range(count)
            ]
        )
        places = {worker: host_at(coordinates, parent) for worker, coordinates in said if worker and coordinates}
        if len(places) < count:
            raise RuntimeError(f"{len(places)} of {count} hosts of the slice {name} say their number and their chips")
        spi.kv_put(SPACE, name, json.dumps(places).encode())
    finally:
        if whole is not None:
            whole.shutdown()
        remove_all([head])
    if not _wait(lambda: all(map(is_idle, _hosts(name))), timeout_s):
        log.warning("the slice %s is not free again after %g s", name, timeout_s)


def _hosts(slice_name: str) -> list[spi.NodeRoom]:
    return [host for host in spi.rooms() if host.labels.get(SLICE_NAME) == slice_name]


def _wait(check: Callable[[], bool], timeout_s: float | None) -> bool:
    """Wait until the head has heard what is so already, for the next look to see it. Whether that was in time."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while not check():
        if deadline is not None and time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S)
    return True


def _coordinates() -> tuple[str, list[list[int]]]:
    """The number of this host in its slice, and the coordinates of its chips, x first."""
    worker: Any = hpc.get_runtime_context().get_node_labels().get(WORKER_ID, "")
    try:
        from libtpu import sdk  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise RuntimeError("libtpu is not installed on this host of the slice: it knows where the chips are") from None
    return worker, [list(chip.coordinates()) for chip in sdk.slice.get_chip_coordinates()]
