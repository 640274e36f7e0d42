"""Intel's Gaudi (HPU), by the files of the driver habanalabs.

HABANA_VISIBLE_MODULES takes the numbers of modules, the places on the board, not those of device files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpc.core.accelerators.base import Device
from hpc.core.accelerators.face import Probe, Vendor

PCI_VENDOR = "0x1da3"


class Gaudi(Vendor):
    """HPUs that HABANA_VISIBLE_MODULES numbers."""

    name = "gaudi"
    resource = "HPU"
    variable = "HABANA_VISIBLE_MODULES"
    noset = "RAY_EXPERIMENTAL_NOSET_HABANA_VISIBLE_MODULES"

    def present(self, probe: Probe) -> bool:
        return next(_folders(probe), None) is not None

    def detect(self, probe: Probe, named: Sequence[str] = ()) -> tuple[Device, ...]:
        found = []
        for index, folder in enumerate(_folders(probe)):
            module = probe.text(folder, "module_id") or str(index)
            numa, cpus = probe.neighbours(folder)
            found.append(
                Device(module, self.resource, _kind(probe.text(folder, "device_type")), 0, numa, (), cpus, self.name)
            )
        found.sort(key=lambda device: int(device.id) if device.id.isdigit() else 0)
        return self.chosen(found, self.granted(probe.environ))


def _folders(probe: Probe) -> Iterator[str]:
    """The folder in sysfs of each device that this process may open. Drivers from Linux 6.2 on use the class accel,
    which others use too; older ones have a class of their own."""
    for name in probe.names("sys/class/accel", r"accel\d+"):
        folder = f"sys/class/accel/{name}/device"
        if probe.text(folder, "vendor").lower() == PCI_VENDOR and probe.openable("dev/accel", name):
            yield folder
    for name in probe.names("sys/class/habanalabs", r"hl\d+"):
        if probe.openable("dev", name):
            yield f"sys/class/habanalabs/{name}/device"


def _kind(model: str) -> str:
    """GAUDI2 of the driver is Intel-GAUDI2."""
    return f"Intel-{model.split()[0].upper()}" if model else ""
