"""Google's TPUs: chips by their device files, the slice that they are part of by variables or the metadata server.

A slice is the chips of several nodes that are wired together. It has a name, a type ("v4-16": generation and cores), a
topology ("2x2x2", in chips), and a number for each of its nodes. GKE says them by variables, Compute Engine by its
metadata server, which is asked only where there are chips.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence

from msgspec import Struct

from hpc.core.accelerators.base import Device
from hpc.core.accelerators.face import Probe, Vendor

PCI_VENDOR = "0x1ae0"
PER_CHIP = "RAY_TPU_RESOURCE_PER_CHIP"
BOUNDS, HOST_BOUNDS = "TPU_CHIPS_PER_HOST_BOUNDS", "TPU_HOST_BOUNDS"
#: The bounds of a part of a host, by its chips.
PARTS = {1: "1,1,1", 2: "1,2,1"}
METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"
METADATA_HEADERS = {"Metadata-Flavor": "Google"}
#: Labels of a node that is part of a slice; each stands under the runtime's own beginning too.
SLICE_NAME, WORKER_ID = "ray.io/tpu-slice-name", "ray.io/tpu-worker-id"
TOPOLOGY, POD_TYPE = "ray.io/tpu-topology", "ray.io/tpu-pod-type"


class Slice(Struct, frozen=True):
    """What a node knows of the slice that it is part of; empty or None: it is not said."""

    name: str = ""
    worker_id: int | None = None
    pod_type: str = ""
    topology: str = ""

    @property
    def kind(self) -> str:
        """The kind of the chips: a "v4-16" has those of "TPU-V4"."""
        return f"TPU-{self.pod_type.partition('-')[0].upper()}" if self.pod_type else ""

    def resources(self) -> dict[str, float]:
        """What the node offers beside its chips: one of its slice's name, and the first node the slice's head."""
        if not (self.name and self.pod_type) or self.worker_id is None:
            return {}
        head = {f"TPU-{self.pod_type}-head": 1.0} if self.worker_id == 0 else {}
        return {self.name: 1.0, **head}

    def labels(self) -> dict[str, str]:
        """What the node's labels say of the slice."""
        worker = "" if self.worker_id is None else str(self.worker_id)
        said = {SLICE_NAME: self.name, WORKER_ID: worker, TOPOLOGY: self.topology, POD_TYPE: self.pod_type}
        return {key: value for key, value in said.items() if value}


class Tpu(Vendor):
    """Chips that TPU_VISIBLE_CHIPS numbers. With `PER_CHIP` a device is a part of a chip."""

    name = "tpu"
    resource = "TPU"
    variable = "TPU_VISIBLE_CHIPS"
    noset = "RAY_EXPERIMENTAL_NOSET_TPU_VISIBLE_CHIPS"

    def present(self, probe: Probe) -> bool:
        return bool(chips(probe))

    def detect(self, probe: Probe, named: Sequence[str] = ()) -> tuple[Device, ...]:
        kind = find_slice(probe).kind
        per_chip = devices_per_chip(probe.environ)
        found: list[Device] = []
        for chip, folder in enumerate(chips(probe)):
            numa, cpus = probe.neighbours(folder)
            for part in range(per_chip):
                found.append(Device(str(chip * per_chip + part), self.resource, kind, 0, numa, (), cpus, self.name))
        ids = self.granted(probe.environ)
        if ids is not None:
            ids = tuple(str(int(i) * per_chip + part) for i in ids if i.isdigit() for part in range(per_chip))
        return self.chosen(found, ids)

    def set(self, ids: tuple[str, ...], devices: tuple[Device, ...], environ: MutableMapping[str, str]) -> None:
        """All that the node has: as the node has it. A part of it also needs its bounds, for libtpu."""
        per_chip = devices_per_chip(environ)
        numbers = sorted({int(ident) // per_chip for ident in ids})
        all_of_it = {device.id for device in devices if device.vendor == self.name} == set(ids)
        if not all_of_it:
            environ[self.variable] = ",".join(map(str, numbers))
        if len(numbers) in PARTS and not all_of_it:
            environ[BOUNDS], environ[HOST_BOUNDS] = PARTS[len(numbers)], "1,1,1"
        elif environ.get(BOUNDS) in PARTS.values() and not all_of_it:
            environ.pop(BOUNDS)
            environ.pop(HOST_BOUNDS, None)


def devices_per_chip(environ: Mapping[str, str]) -> int:
    """How many devices a chip counts as; ValueError for what is no number from 1 on."""
    value = environ.get(PER_CHIP)
    if value is None:
        return 1
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{PER_CHIP} is {value!r}; it takes a number from 1 on")
    return int(value)


def chips(probe: Probe) -> list[str]:
    """The folder in sysfs of each chip. By /dev/accel0 and so on; a folder /dev/accel is another vendor's. Else by the
    groups below /dev/vfio whose PCI device is Google's."""
    files = [name for name in probe.names("dev", r"accel\d+") if probe.openable("dev", name)]
    if files:
        return [f"sys/class/accel/{name}/device" for name in files]
    found = []
    for group in probe.names("dev/vfio", r"\d+"):
        devices = f"sys/kernel/iommu_groups/{group}/devices"
        for device in probe.names(devices):
            if probe.text(devices, device, "vendor").lower() == PCI_VENDOR:
                found.append(f"{devices}/{device}")
                break
    return found


def find_slice(probe: Probe, *, ask: bool = True) -> Slice:
    """What is said of the slice, by the variables of GKE or the metadata server of Compute Engine. ask: whether
    the server is asked, which is there only where there are chips."""

    def said(variable: str, attribute: str) -> str:
        value = probe.environ.get(variable, "")
        if value or not asked:
            return value.strip()
        try:
            return probe.fetch(METADATA + attribute, METADATA_HEADERS).strip()
        except (OSError, ValueError):
            asked.clear()  # whoever does not answer once is not there
            return ""

    asked = ["metadata"] if ask else []
    pod_type = canonical(said("TPU_ACCELERATOR_TYPE", "accelerator-type"))
    worker = said("TPU_WORKER_ID", "agent-worker-number")
    topology = probe.environ.get("TPU_TOPOLOGY", "")
    if not topology and asked:
        match = re.search(r"TOPOLOGY:\s*'([^']+)'", said("", "tpu-env"))
        topology = match[1] if match else ""
    return Slice(
        said("TPU_NAME", "instance-id"),
        int(worker) if worker.isdigit() else None,
        pod_type if re.fullmatch(r"v\d+[a-z]*-\d+", pod_type) else "",
        topology.strip().lower(),
    )


def canonical(kind: str) -> str:
    """A generation or type in the one spelling: "TPU-V7X" is v7x, "tpu7x-8" v7x-8."""
    return re.sub(r"^tpu-?v?", "v", kind.strip().lower())
