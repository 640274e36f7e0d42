"""Intel's GPUs, by the kernel's files.

ZE_AFFINITY_MASK leaves some devices, and ONEAPI_DEVICE_SELECTOR numbers what is left from 0. A device's id is what the
mask takes. The mask alone restricts a process: a selector that names devices by number is widened for it.
Level Zero counts each tile as a device (ZE_FLAT_DEVICE_HIERARCHY=FLAT, its default) or each card (COMPOSITE).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence

from hpc.core.accelerators.base import Device
from hpc.core.accelerators.face import Probe, Vendor

DRM = "sys/class/drm"
PCI_VENDOR = "0x8086"
#: The graphics of the processor itself: no accelerator.
BUILT_IN = "0000:00:02.0"
#: Kinds by the PCI number of the device, and how many tiles one can have.
KINDS = {
    **dict.fromkeys((0x0BD4, 0x0BD5, 0x0BD6, 0x0BD7, 0x0BD8), "Intel-GPU-Max-1550"),
    **dict.fromkeys((0x0BD9, 0x0BDA, 0x0BDB), "Intel-GPU-Max-1100"),
    0x56C0: "Intel-GPU-Flex-170",
    0x56C1: "Intel-GPU-Flex-140",
}
TILED = ("Intel-GPU-Max-1550", "Intel-GPU-Max-1100")
BACKENDS = ("level_zero", "ext_oneapi_level_zero", "*")


class Intel(Vendor):
    """GPUs that ZE_AFFINITY_MASK numbers."""

    name = "intel"
    resource = "GPU"
    variable = "ZE_AFFINITY_MASK"
    noset = "RAY_EXPERIMENTAL_NOSET_ZE_AFFINITY_MASK"
    selector = "ONEAPI_DEVICE_SELECTOR"

    def present(self, probe: Probe) -> bool:
        return next(_cards(probe), None) is not None

    def spoken_of(self, environ: Mapping[str, str]) -> bool:
        return self.variable in environ or selected(environ.get(self.selector, "")) is not None

    def granted(self, environ: Mapping[str, str]) -> tuple[str, ...] | None:
        mask = super().granted(environ) if environ.get(self.variable) else None
        numbers = selected(environ.get(self.selector, ""))
        if mask is None or numbers is None:
            return mask if numbers is None else numbers
        return tuple(mask[int(i)] for i in numbers if i.isdigit() and int(i) < len(mask))

    def detect(self, probe: Probe, named: Sequence[str] = ()) -> tuple[Device, ...]:
        whole_cards = probe.environ.get("ZE_FLAT_DEVICE_HIERARCHY", "").upper() == "COMPOSITE"
        there: list[Device] = []
        for card in _cards(probe):
            kind = KINDS.get(probe.number(DRM, card, "device/device"), "")
            numa, cpus = probe.neighbours(f"{DRM}/{card}/device")
            for _tile in range(1 if whole_cards or kind not in TILED else _tiles(probe, card)):
                there.append(Device(str(len(there)), self.resource, kind, 0, numa, (), cpus, self.name))
        ids = self.granted(probe.environ)
        if ids is None and named and len(there) != len(named):
            ids = tuple(named)
        if not there or any("." in ident for ident in ids or ()):  # tiles of whole cards, as 0.1
            by_card = {device.id: device for device in there}
            return tuple(self._part(by_card.get(ident.partition(".")[0]), ident) for ident in ids or ())
        return self.chosen(there, ids)

    def _part(self, card: Device | None, ident: str) -> Device:
        if card is None:
            return Device(ident, self.resource, vendor=self.name)
        return Device(ident, self.resource, card.kind, 0, card.numa_node, (), card.cpus, self.name)

    def set(self, ids: tuple[str, ...], devices: tuple[Device, ...], environ: MutableMapping[str, str]) -> None:
        environ[self.variable] = ",".join(ids)
        if selected(environ.get(self.selector, "")) is not None:
            environ[self.selector] = "level_zero:*"


def selected(selector: str) -> tuple[str, ...] | None:
    """The numbers of Level Zero's devices in a selector like level_zero:0,1; None: it names none by number."""
    found: list[str] = []
    for term in selector.split(";"):
        backend, colon, devices = term.strip().rpartition(":")
        if (not colon or backend in BACKENDS) and re.fullmatch(r"\d+(\.\d+)?(,\d+(\.\d+)?)*", devices):
            found += devices.split(",")
    return tuple(dict.fromkeys(found)) or None


def _cards(probe: Probe) -> Iterator[str]:
    """Names below sys/class/drm, in the order of the PCI addresses, which is Level Zero's."""
    found = []
    for card in probe.names(DRM, r"card\d+"):
        if probe.text(DRM, card, "device/vendor").lower() != PCI_VENDOR:
            continue
        facts = dict(line.partition("=")[::2] for line in probe.text(DRM, card, "device/uevent").splitlines())
        bus = facts.get("PCI_SLOT_NAME", "")
        nodes = probe.names(f"{DRM}/{card}/device/drm", r"renderD\d+")
        if bus != BUILT_IN and all(probe.openable("dev/dri", node) for node in nodes):
            found.append((bus, card))
    yield from (card for _bus, card in sorted(found))


def _tiles(probe: Probe, card: str) -> int:
    """By the driver xe, else by i915."""
    return max(
        1, len(probe.names(f"{DRM}/{card}/device", r"tile\d+")) or len(probe.names(f"{DRM}/{card}/gt", r"gt\d+"))
    )
