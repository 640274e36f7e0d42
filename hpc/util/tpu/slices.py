"""Whole slices: reserve them as placement groups, run a function on each host, count those that are there.

A slice is taken by the resource of its head, of which the first host has one. The holder of the head may place bundles
on the slice's hosts, which are known by the label of its name. Once those bundles are placed they hold the chips, and
the head can go (`SlicePlacementGroup.release_head_pgs`).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import hpc
from hpc import spi
from hpc.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from hpc.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from hpc.util.tpu.shapes import (
    check_topology,
    chips_of,
    chips_per_host,
    get_tpu_version_from_type,
    get_tpu_worker_resources,
    per_chip_of,
    pod_type_of,
)

log = logging.getLogger(__name__)
SLICE_NAME, WORKER_ID = "ray.io/tpu-slice-name", "ray.io/tpu-worker-id"
TOPOLOGY, POD_TYPE = "ray.io/tpu-topology", "ray.io/tpu-pod-type"
#: How long the head of a slice is waited for, where nobody says how long.
HEAD_TIMEOUT_S = 100.0


def get_tpu_slice_name_from_node(node: Mapping[str, Any]) -> str | None:
    """The name of the slice that a node (of `hpc.nodes`) is part of; None where it is part of none."""
    return (node.get("Labels") or {}).get(SLICE_NAME)


def get_tpu_nodes_for_slice(slice_name: str, nodes: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """The living nodes of a slice, of these or of the session; none outside of a session."""
    if nodes is None:
        nodes = hpc.nodes() if hpc.is_initialized() else []
    return [node for node in nodes if node.get("Alive") and get_tpu_slice_name_from_node(node) == slice_name]


def get_num_tpu_slices(topology: str, accelerator_type: str, tpu_resource_per_chip: int | None = None) -> int:
    """How many slices of this topology are whole: all hosts live, with all chips. They need not be idle."""
    return len(_whole_slices(topology, accelerator_type, tpu_resource_per_chip))


def get_num_ready_tpu_slices(topology: str, accelerator_type: str, tpu_resource_per_chip: int | None = None) -> int:
    """How many of them are whole and idle."""
    return sum(all(map(is_idle, hosts)) for hosts in _whole_slices(topology, accelerator_type, tpu_resource_per_chip))


def is_idle(host: spi.NodeRoom) -> bool:
    """Whether nobody uses a chip of the host."""
    return host.free.get("TPU", 0) >= host.total.get("TPU", 0)


def _whole_slices(topology: str, accelerator_type: str, per_chip: int | None) -> list[list[spi.NodeRoom]]:
    if not hpc.is_initialized():
        return []
    wanted = chips_of(topology) * per_chip_of(per_chip)
    pod_type = pod_type_of(topology.strip().lower(), get_tpu_version_from_type(accelerator_type))
    slices: dict[str, list[spi.NodeRoom]] = {}
    for host in spi.rooms():
        if host.labels.get(POD_TYPE) == pod_type:
            alone = host.total.get("TPU", 0) >= wanted
            name = f"node {host.node}" if alone else host.labels.get(SLICE_NAME)
            if name:
                slices.setdefault(name, []).append(host)
    return [
        hosts
        for hosts in slices.values()
        if sum(host.total.get("TPU", 0) for host in hosts) == wanted
        and (len(hosts) == 1 or any(host.labels.get(WORKER_ID) == "0" for host in hosts))
    ]


class SlicePlacementGroup:
    """Slices that are reserved: one bundle for each worker, all workers of a slice on its hosts.

    topology: of each slice, in chips, as "2x2x2". accelerator_version: the generation, as "v4". resources_per_bundle:
    by default the chips of one host, and one CPU. strategy, name, lifetime: as of a placement group. num_slices: how
    many. chips_per_vm: how many chips a host has, where that is not as usual. head_reservation_timeout_s: how long a
    slice is waited for; None: for ever. bundle_label_selector: further labels for each bundle; one with the name of a
    slice chooses it. pg_per_slice: a group for each slice instead of one for all. tpu_resource_per_chip: how many of
    the resource TPU a chip is.

    Raises ValueError for what makes no sense, and TimeoutError where no slice is free in time; nothing is held then.
    """

    def __init__(
        self,
        topology: str,
        accelerator_version: str,
        resources_per_bundle: dict[str, float] | None = None,
        strategy: str = "SPREAD",
        name: str = "",
        lifetime: str | None = None,
        num_slices: int = 1,
        chips_per_vm: int | None = None,
        head_reservation_timeout_s: float | None = HEAD_TIMEOUT_S,
        bundle_label_selector: list[dict[str, str]] | None = None,
        pg_per_slice: bool = False,
        tpu_resource_per_chip: int | None = None,
    ) -> None:
        self._heads: list[PlacementGroup | None] = []
        self._groups: list[PlacementGroup] = []
        self._topology = topology.strip().lower()
        self._version = get_tpu_version_from_type(accelerator_version.strip())
        self._num_slices = num_slices
        self._per_slice = pg_per_slice
        self._timeout_s = head_reservation_timeout_s
        self._per_chip = per_chip_of(tpu_resource_per_chip)
        self._num_bundles, self._each = get_tpu_worker_resources(
            self._topology, self._version, resources_per_bundle, num_slices, chips_per_vm, self._per_chip
        )
        check_topology(self._topology, self._version)
        self._chips_per_host = chips_per_vm or chips_per_host(self._topology, self._version)
        self._hosts_per_slice = max(1, chips_of(self._topology) // self._chips_per_host)
        given = bundle_label_selector or []
        if given and len(given) != self._num_bundles:
            raise ValueError(f"bundle_label_selector has {len(given)} entries for {self._num_bundles} bundles")
        self._selectors: list[dict[str, str]] = []
        try:
            self._reserve(given, strategy, name, lifetime)
        except BaseException:
            self.shutdown()
            raise

    def _reserve(self, given: Sequence[Mapping[str, str]], strategy: str, name: str, lifetime: str | None) -> None:
        count = self._num_bundles // self._num_slices
        for index in range(self._num_slices):
            own = [dict(labels or {}) for labels in given[index * count : (index + 1) * count]] or [{}] * count
            slice_label = {} if self._hosts_per_slice == 1 else {SLICE_NAME: self._take(own)}
            selectors = [{**labels, **slice_label} for labels in own]
            self._selectors += selectors
            if self._per_slice:
                part_name = f"{name}_slice_{index}" if name else ""
                self._groups.append(self._group(selectors, strategy, part_name, lifetime))
        if not self._per_slice:
            self._groups.append(self._group(self._selectors, strategy, name, lifetime))

    def _take(self, selectors: Sequence[Mapping[str, str]]) -> str:
        """The name of a slice that is held by its head, or that the user has chosen."""
        chosen = next((labels[SLICE_NAME] for labels in selectors if SLICE_NAME in labels), None)
        if chosen is not None:
            return chosen
        name, head = take_slice(self._topology, self._version, self._timeout_s)
        self._heads.append(head)
        return name

    def _group(
        self, selectors: Sequence[Mapping[str, str]], strategy: str, name: str, lifetime: str | None
    ) -> PlacementGroup:
        bundles = [dict(self._each) for _ in selectors]
        return placement_group(bundles, strategy, name, lifetime, bundle_label_selector=list(selectors))

    @property
    def slice_placement_group(self) -> PlacementGroup | None:
        """The group of all slices. ValueError where each has its own."""
        if self._per_slice:
            raise ValueError("pg_per_slice=True: each slice has its group, see slice_placement_groups")
        return self._groups[0] if self._groups else None

    @property
    def placement_group(self) -> PlacementGroup | None:
        """The same."""
        return self.slice_placement_group

    @property
    def slice_placement_groups(self) -> list[PlacementGroup]:
        """The group of each slice. ValueError where one is for all."""
        if not self._per_slice:
            raise ValueError("pg_per_slice=False: all slices are one group, see slice_placement_group")
        return self._groups

    @property
    def groups(self) -> list[PlacementGroup]:
        """The groups, whether there is one for all slices or one for each."""
        return self._groups

    @property
    def is_group_per_slice(self) -> bool:
        """Whether each slice has a group of its own."""
        return self._per_slice

    @property
    def chips_per_host(self) -> int:
        """How many chips a host has."""
        return self._chips_per_host

    @property
    def devices_per_host(self) -> int:
        """How many of the resource TPU a host has."""
        return self._chips_per_host * self._per_chip

    @property
    def tpu_resource_per_chip(self) -> int:
        """How many of the resource TPU a chip is."""
        return self._per_chip

    @property
    def num_hosts(self) -> int:
        """The hosts of all slices."""
        return self._hosts_per_slice * self._num_slices

    @property
    def num_bundles(self) -> int:
        """The bundles of all slices."""
        return self._num_bundles

    @property
    def num_slices(self) -> int:
        """How many slices are reserved."""
        return self._num_slices

    @property
    def topology(self) -> str:
        """The topology of each slice."""
        return self._topology

    @property
    def accelerator_version(self) -> str:
        """The generation of the chips."""
        return self._version

    @property
    def head_placement_groups(self) -> list[PlacementGroup]:
        """The groups that hold the heads of the slices."""
        return [head for head in self._heads if head is not None]

    @property
    def bundle_label_selector(self) -> list[dict[str, str]]:
        """The labels that the node of each bundle must have."""
        return self._selectors

    @property
    def bundle_resources(self) -> dict[str, float]:
        """What each bundle holds."""
        return self._each

    def release_head_pgs(self, slice_index: int | None = None) -> None:
        """Give the heads back, or that of one slice: once the bundles are placed they hold the slice. Twice does no
        harm. ValueError for a slice that has no head."""
        if slice_index is not None and not 0 <= slice_index < len(self._heads):
            raise ValueError(f"Invalid slice_index: {slice_index}; there are {len(self._heads)} heads")
        for index in range(len(self._heads)) if slice_index is None else (slice_index,):
            head, self._heads[index] = self._heads[index], None
            remove_all([head] if head is not None else [])

    def shutdown(self) -> None:
        """Give back all that is held. Twice does no harm."""
        groups, self._groups = self._groups, []
        remove_all(groups)
        self.release_head_pgs()


def remove_all(groups: Iterable[PlacementGroup]) -> None:
    """Remove groups; what fails is logged, so that the rest goes on."""
    for group in groups:
        try:
            remove_placement_group(group)
        except Exception:
            log.exception("the placement group %s cannot be removed", group)


def take_slice(
    topology: str, version: str, timeout_s: float | None, name: str | None = None
) -> tuple[str, PlacementGroup]:
    """Hold the head of a free slice: its name, and the group with the head. name: this slice and no other.

    TimeoutError where none is free in time, RuntimeError where the host does not say the slice's name."""
    pod_type = pod_type_of(topology, version)
    labels = {WORKER_ID: "0", POD_TYPE: pod_type, **({SLICE_NAME: name} if name else {})}
    head = placement_group([{f"TPU-{pod_type}-head": 1}], bundle_label_selector=[labels])
    try:
        if not hpc.wait([head.ready()], timeout=timeout_s)[0]:
            free = {key: value for key, value in hpc.available_resources().items() if "TPU" in key}
            raise TimeoutError(f"no slice {pod_type} was free within {timeout_s:g} s: {labels}; free now: {free}")
        where = PlacementGroupSchedulingStrategy(head, placement_group_bundle_index=0)
        found = hpc.get(hpc.remote(num_cpus=0)(_slice_name).options(scheduling_strategy=where).remote())
        if not found:
            raise RuntimeError(f"a host of a slice {pod_type} does not say the slice's name: set TPU_NAME on its nodes")
    except BaseException:
        remove_all([head])
        raise
    return found, head


def _slice_name() -> str:
    return hpc.get_runtime_context().get_node_labels().get(SLICE_NAME) or spi.tpu_here().name


def slice_placement_group(
    topology: str,
    accelerator_version: str,
    resources_per_bundle: dict[str, float] | None = None,
    num_slices: int = 1,
    chips_per_vm: int | None = None,
    pg_per_slice: bool = False,
    tpu_resource_per_chip: int | None = None,
    **kwargs: Any,
) -> SlicePlacementGroup:
    """Reserve slices; see `SlicePlacementGroup`, whose further arguments kwargs has."""
    return SlicePlacementGroup(
        topology=topology, accelerator_version=accelerator_version, resources_per_bundle=resources_per_bundle,
        num_slices=num_slices, chips_per_vm=chips_per_vm, pg_per_slice=pg_per_slice,
        tpu_resource_per_chip=tpu_resource_per_chip, **kwargs,
    )  # fmt: skip


def run_on_slice(
    fn: Any,
    *args: Any,
    topology: str | None = None,
    accelerator_version: str | None = None,
    tpu_slice: SlicePlacementGroup | None = None,
    slice_index: int | None = None,
    num_slices: int = 1,
    chips_per_vm: int | None = None,
    head_reservation_timeout_s: float | None = HEAD_TIMEOUT_S,
    pg_ready_timeout_s: float | None = None,
    **kwargs: Any,
) -> list[hpc.ObjectRef[Any]]:
    """Run a remote function on each host of slices, with the same arguments: a reference for each bundle.

    tpu_slice: slices that are reserved already; without it topology and accelerator_version say what is reserved for
    this. slice_index: on this slice alone, where each has a group of its own. pg_ready_timeout_s: how long the bundles
    are waited for.

    Raises TypeError where fn is no remote function, and ValueError for arguments that do not go together. Raises
    TimeoutError where there is no room in time; what was reserved for this is given back then."""
    if not hasattr(fn, "options"):
        raise TypeError(f"fn must be a remote function, not {type(fn).__name__}: it has no options()")
    if slice_index is not None:
        if tpu_slice is None:
            raise ValueError("slice_index is for slices that are given as tpu_slice")
        if not tpu_slice.is_group_per_slice:
            raise ValueError("slice_index is for slices that were reserved with pg_per_slice=True")
        if not 0 <= slice_index < tpu_slice.num_slices:
            raise ValueError(f"Invalid slice_index {slice_index}: there are {tpu_slice.num_slices} slices")
    held = tpu_slice
    if held is None:
        if topology is None or accelerator_version is None:
            raise ValueError("without tpu_slice topology and accelerator_version are needed")
        held = SlicePlacementGroup(
            topology, accelerator_version, num_slices=num_slices, chips_per_vm=chips_per_vm,
            head_reservation_timeout_s=head_reservation_timeout_s,
        )  # fmt: skip
    try:
        groups = held.groups if slice_index is None else held.groups[slice_index : slice_index + 1]
        if not groups:
            raise ValueError("tpu_slice has been shut down")
        ready, late = hpc.wait([group.ready() for group in groups], num_returns=len(groups), timeout=pg_ready_timeout_s)
        if late:
            raise TimeoutError(f"no room for the bundles of the slices within {pg_ready_timeout_s:g} s")
        hpc.get(ready)  # an error of a group that has been removed
    except BaseException:
        if tpu_slice is None:
            held.shutdown()
        raise
    if tpu_slice is None:
        held.release_head_pgs()
    remote = fn.options(num_cpus=0, resources={"TPU": held.bundle_resources["TPU"]})
    return [
        remote.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, index)).remote(*args, **kwargs)
        for group in groups
        for index in range(group.bundle_count)
    ]


def dispatch(*args: Any, **kwargs: Any) -> list[hpc.ObjectRef[Any]]:
    """The older name of `run_on_slice`."""
    warnings.warn("dispatch is deprecated: use run_on_slice", DeprecationWarning, stacklevel=2)
    return run_on_slice(*args, **kwargs)
