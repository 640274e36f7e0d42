"""All vendors, in one table: which devices a node has, and which of them a process sees.

A vendor's module is imported only where something speaks for it: a name below /dev, one of its variables, or an
instance of its resource. Most nodes have none, and import nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, field

from hpc.core.accelerators.base import Device

if TYPE_CHECKING:
    from hpc.core.accelerators.face import Probe, Vendor


def _nvidia() -> Vendor:
    from hpc.core.accelerators.nvidia import Nvidia

    return Nvidia()


def _amd() -> Vendor:
    from hpc.core.accelerators.amd import Amd

    return Amd()


def _intel() -> Vendor:
    from hpc.core.accelerators.intel import Intel

    return Intel()


def _tpu() -> Vendor:
    from hpc.core.accelerators.tpu import Tpu

    return Tpu()


def _ascend() -> Vendor:
    from hpc.core.accelerators.ascend import Ascend

    return Ascend()


def _gaudi() -> Vendor:
    from hpc.core.accelerators.gaudi import Gaudi

    return Gaudi()


def _neuron() -> Vendor:
    from hpc.core.accelerators.neuron import Neuron

    return Neuron()


def _unseen(resource: str) -> Callable[[], Vendor]:
    def make() -> Vendor:
        from hpc.core.accelerators.others import UNSEEN

        return UNSEEN[resource]()

    return make


class VendorEntry(NamedTuple):
    """A vendor. files: the names below /dev that may be its devices or their folder; empty: nothing finds them.
    variables: those that say which devices a process may use."""

    name: str
    resource: str
    files: str
    variables: tuple[str, ...]
    make: Callable[[], Vendor]


#: The vendors, each resource's in the order in which its devices are looked for.
TABLE = (
    VendorEntry("nvidia", "GPU", r"nvidia.*|dxg", ("CUDA_VISIBLE_DEVICES",), _nvidia),
    VendorEntry("amd", "GPU", r"kfd", ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"), _amd),
    VendorEntry("intel", "GPU", r"dri", ("ZE_AFFINITY_MASK", "ONEAPI_DEVICE_SELECTOR"), _intel),
    VendorEntry("tpu", "TPU", r"accel\d+|vfio", ("TPU_VISIBLE_CHIPS",), _tpu),
    VendorEntry("ascend", "NPU", r"davinci.*", ("ASCEND_RT_VISIBLE_DEVICES",), _ascend),
    VendorEntry("gaudi", "HPU", r"accel|hl\d+", ("HABANA_VISIBLE_MODULES",), _gaudi),
    VendorEntry("neuron", "neuron_cores", r"neuron\d+", ("NEURON_RT_VISIBLE_CORES",), _neuron),
    VendorEntry("rebellions", "RBLN", "", ("RBLN_DEVICES",), _unseen("RBLN")),
    VendorEntry("furiosa", "FURIOSA", "", ("FURIOSA_DEVICES",), _unseen("FURIOSA")),
    VendorEntry("mobilint", "MBLT", "", ("QBRUNTIME_VISIBLE_DEVICES",), _unseen("MBLT")),
    VendorEntry("tenstorrent", "TTNPU", "", ("TT_VISIBLE_DEVICES",), _unseen("TTNPU")),
)


class Found(Struct, frozen=True):
    """What a node has: its devices, and the resources and labels that it has because of them."""

    devices: tuple[Device, ...] = ()
    resources: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


def is_device(path: str) -> bool:
    """Whether a path is that of some vendor's device file."""
    name = path.removeprefix("/dev/").partition("/")[0]
    return path.startswith("/dev/") and any(entry.files and re.fullmatch(entry.files, name) for entry in TABLE)


def present(environ: Mapping[str, str], root: str = "/") -> list[Vendor]:
    """The vendors whose device files are there."""
    try:
        names = os.listdir(os.path.join(root, "dev"))
    except OSError:
        return []
    hinted = [e for e in TABLE if e.files and any(re.fullmatch(e.files, name) for name in names)]
    if not hinted:
        return []
    probe = _probe(environ, root)
    return [vendor for vendor in (entry.make() for entry in hinted) if vendor.present(probe)]


def find(probe: Probe, there: Sequence[Vendor], gpus: Sequence[str] = (), gpu_count: int | None = None) -> Found:
    """The devices that this node was granted, of the vendors that are present. gpus: the GPUs that the scheduler names.
    gpu_count: how many it counts; None: it does not."""
    devices: list[Device] = []
    if gpu_count != 0:  # devices that others may use can be there all the same
        for vendor in [vendor for vendor in there if vendor.resource == "GPU"]:
            found = vendor.detect(probe, gpus)
            if found:
                told = bool(gpus) or vendor.granted(probe.environ) is not None
                devices += found if told or gpu_count is None else found[:gpu_count]
                break
    for vendor in there:
        if vendor.resource != "GPU":
            devices += vendor.detect(probe)
    if not any(device.resource == "TPU" for device in devices):
        return Found(tuple(devices))
    from hpc.core.accelerators.tpu import find_slice

    part = find_slice(probe)
    return Found(tuple(devices), part.resources(), part.labels())


def spoken_of(environ: Mapping[str, str], gpus: Sequence[str] = ()) -> tuple[Device, ...]:
    """The GPUs of a node without any vendor's device files: variables are believed, then the scheduler, as on a
    machine whose driver has other files. The first vendor with a variable counts."""
    entries = [entry for entry in TABLE if entry.resource == "GPU" and any(name in environ for name in entry.variables)]
    if not entries and gpus:
        entries = [TABLE[0]]
    for entry in entries[:1]:
        from hpc.core.accelerators.face import without_libraries

        return entry.make().detect(without_libraries(_probe(environ, os.devnull)), gpus)
    return ()


def vendor_of(resource: str, devices: Sequence[Device] = ()) -> Vendor:
    """The vendor of a node's devices of a resource; the first of the table where none was found."""
    names = {device.vendor for device in devices if device.resource == resource}
    of_it = [entry for entry in TABLE if entry.resource == resource]
    return next((entry for entry in of_it if entry.name in names), of_it[0]).make()


def show(
    instances: Mapping[str, Sequence[str]],
    devices: Sequence[Device],
    environ: MutableMapping[str, str],
    kept: Container[str] = (),
) -> None:
    """Make exactly these instances visible to the libraries of a process; devices: all of its node. kept: variables
    that its user has set, which stay as they are."""
    for resource in dict.fromkeys((*instances, *(device.resource for device in devices))):
        vendor, ids = vendor_of(resource, devices), instances.get(resource, ())
        if vendor.variable in kept:
            continue
        if ids:
            vendor.show(ids, devices, environ)
        else:
            vendor.hide(environ)


def _probe(environ: Mapping[str, str], root: str) -> Probe:
    from hpc.core.accelerators.face import Probe

    return Probe(environ, root)
