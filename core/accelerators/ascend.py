"""Huawei's Ascend NPUs, by their device files; AscendCL, where it is installed, says which kind they are."""

from __future__ import annotations

from collections.abc import Sequence

from hpc.core.accelerators.base import Device
from hpc.core.accelerators.face import Probe, Vendor


class Ascend(Vendor):
    """NPUs that ASCEND_RT_VISIBLE_DEVICES numbers."""

    name = "ascend"
    resource = "NPU"
    variable = "ASCEND_RT_VISIBLE_DEVICES"
    noset = "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES"

    def present(self, probe: Probe) -> bool:
        return bool(probe.names("dev", r"davinci\d+"))

    def detect(self, probe: Probe, named: Sequence[str] = ()) -> tuple[Device, ...]:
        files = [name for name in probe.names("dev", r"davinci\d+") if probe.openable("dev", name)]
        kind = _kind(probe) if files else ""
        found = [Device(str(i), self.resource, kind, vendor=self.name) for i in range(len(files))]
        return self.chosen(found, self.granted(probe.environ))


def _kind(probe: Probe) -> str:
    try:
        return str(probe.load("acl").get_soc_name() or "")
    except Exception:  # another vendor's library: absent, or it does not fit the driver
        return ""
