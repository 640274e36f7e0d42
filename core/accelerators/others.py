"""Accelerators that nothing here finds: their user says how many a node has, and processes are shown theirs."""

from __future__ import annotations

from collections.abc import Sequence

from hpc.core.accelerators.base import Device
from hpc.core.accelerators.face import Probe, Vendor


class _Unseen(Vendor):
    """Of these a node has what its user says."""

    def present(self, probe: Probe) -> bool:
        return False

    def detect(self, probe: Probe, named: Sequence[str] = ()) -> tuple[Device, ...]:
        return ()


class Rebellions(_Unseen):
    """NPUs of Rebellions."""

    name = "rebellions"
    resource = "RBLN"
    variable = "RBLN_DEVICES"
    noset = "RAY_EXPERIMENTAL_NOSET_RBLN_RT_VISIBLE_DEVICES"


class Furiosa(_Unseen):
    """NPUs of FuriosaAI."""

    name = "furiosa"
    resource = "FURIOSA"
    variable = "FURIOSA_DEVICES"
    noset = "RAY_EXPERIMENTAL_NOSET_FURIOSA_DEVICES"
    prefix = "npu:"


class Mobilint(_Unseen):
    """NPUs of Mobilint."""

    name = "mobilint"
    resource = "MBLT"
    variable = "QBRUNTIME_VISIBLE_DEVICES"
    noset = "RAY_EXPERIMENTAL_NOSET_MBLT_RT_VISIBLE_DEVICES"


class Tenstorrent(_Unseen):
    """NPUs of Tenstorrent."""

    name = "tenstorrent"
    resource = "TTNPU"
    variable = "TT_VISIBLE_DEVICES"
    noset = "RAY_EXPERIMENTAL_NOSET_TENSTORRENT_VISIBLE_DEVICES"


UNSEEN = {vendor.resource: vendor for vendor in (Rebellions, Furiosa, Mobilint, Tenstorrent)}
