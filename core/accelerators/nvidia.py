"""NVIDIA's GPUs: by NVML where nvidia-ml-py is installed, else by the driver's files.

CUDA counts the devices that it can open, and so does NVML: within a device cgroup both begin at 0 with the first one
left. A GPU that is divided by MIG is offered as its instances, which have names and no numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from msgspec import Struct, field

from hpc.core.accelerators.base import Device
from hpc.core.accelerators.face import Probe, Vendor, linked

#: In a product's name: the words in capitals before the first one with a digit, and that.
_MODEL = re.compile(r"\w+\s+((?:[A-Z]+\s+)*[A-Z0-9]*\d[A-Z0-9]*)")
DRIVER = "proc/driver/nvidia/gpus"


class _NvidiaGpu(Struct):
    """One GPU of the machine as the driver has it. mig: name and memory of each instance; None: it is not divided.
    peers: indices of those that it reaches by NVLink."""

    index: int
    name: str = ""
    uuid: str = ""
    bus: str = ""
    memory_bytes: int = 0
    mig: list[tuple[str, int]] | None = None
    peers: set[int] = field(default_factory=set)
    fault: str = ""


class Nvidia(Vendor):
    """GPUs that CUDA_VISIBLE_DEVICES names by index, UUID or MIG instance."""

    name = "nvidia"
    resource = "GPU"
    variable = "CUDA_VISIBLE_DEVICES"
    noset = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"

    def present(self, probe: Probe) -> bool:
        return bool(probe.names("dev", r"nvidia\d+")) or probe.exists("dev/dxg")

    def detect(self, probe: Probe, named: Sequence[str] = ()) -> tuple[Device, ...]:
        ids = self.granted(probe.environ)
        there = by_nvml(probe)
        complete = there is not None
        if there is None:
            there = by_files(probe)
        if ids is None and named:
            ids = _renumbered(named, there)
        ordered = len({gpu.name for gpu in there}) <= 1 or probe.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        return self._devices(probe, there, ids, ordered=ordered, complete=complete)

    def hide(self, environ: MutableMapping[str, str]) -> None:
        self.show((), (), environ)

    def _devices(
        self, probe: Probe, there: Sequence[_NvidiaGpu], ids: Sequence[str] | None, *, ordered: bool, complete: bool
    ) -> tuple[Device, ...]:
        """ordered: CUDA's numbers are those of the driver. complete: no GPU is usable that is not there."""
        if ids is None:
            ids = [g.uuid if g.uuid and (not ordered or _any_mig(there)) else str(g.index) for g in there]
        found: list[tuple[Device, _NvidiaGpu | None]] = []
        for ident in ids:
            gpu = _find(ident, there)
            if gpu is None and complete:
                break
            if gpu is None or (ident.isdigit() and not ordered):
                found.append((Device(ident, self.resource, vendor=self.name), None))
            else:
                found += [(device, gpu) for device in self._parts(probe, gpu, ident)]
        whole = {gpu.index: device.id for device, gpu in found if gpu is not None and gpu.mig is None}
        return tuple(
            device if gpu is None or gpu.mig is not None
            else linked(device, [whole[index] for index in sorted(gpu.peers) if index in whole])
            for device, gpu in found
        )  # fmt: skip

    def _parts(self, probe: Probe, gpu: _NvidiaGpu, ident: str) -> list[Device]:
        numa, cpus = probe.on_pci(gpu.bus) if gpu.bus else (-1, ())
        parts = [(ident, gpu.memory_bytes)]
        if gpu.mig is not None:
            own = [(name, memory) for name, memory in gpu.mig if name.startswith(ident)]
            parts = own or gpu.mig if not ident.startswith("MIG-") else own or [(ident, 0)]
        return [
            Device(name, self.resource, kind_of(gpu.name), memory, numa, (), cpus, self.name, gpu.fault)
            for name, memory in parts
        ]


def kind_of(name: str) -> str:
    """The kind in a product's name: "NVIDIA A100-SXM4-40GB" is an "A100", and a "NVIDIA GeForce RTX 3090" one."""
    match = _MODEL.match(name)
    kind = match[1].replace(" ", "-") if match else ""
    return kind if len(kind) > 1 else re.sub(r"^NVIDIA\s+", "", name).strip().replace(" ", "-")


def by_files(probe: Probe) -> list[_NvidiaGpu]:
    """The GPUs whose device files this process may open, numbered from 0, with what the driver's files say of them."""
    minors = [n.removeprefix("nvidia") for n in probe.names("dev", r"nvidia\d+") if probe.openable("dev", n)]
    said: dict[str, tuple[str, str, str]] = {}
    for bus in probe.names(DRIVER):
        lines = (line.partition(":") for line in probe.text(DRIVER, bus, "information").splitlines())
        facts = {key.strip(): value.strip() for key, _, value in lines}
        uuid = facts.get("GPU UUID", "")
        said[facts.get("Device Minor", "")] = (bus, facts.get("Model", ""), "" if "?" in uuid else uuid)
    order = sorted(minors, key=lambda minor: (said[minor][0] if minor in said else "", int(minor)))
    found = []
    for index, minor in enumerate(order):
        bus, name, uuid = said.get(minor, ("", "", ""))
        found.append(_NvidiaGpu(index, name, uuid, bus))
    return found


def by_nvml(probe: Probe) -> list[_NvidiaGpu] | None:
    """The GPUs that NVML finds, without those that it has lost; None: there is no NVML, or it does not answer."""
    try:
        nvml = probe.load("pynvml")
        nvml.nvmlInit()
    except Exception:  # another vendor's library: a driver that does not fit, or none
        return None
    try:
        found = [gpu for index in range(nvml.nvmlDeviceGetCount()) if (gpu := _read(nvml, index))]
        _add_peers(nvml, found)
        return found
    except Exception:
        return None
    finally:
        _ask(nvml.nvmlShutdown)


def _read(nvml: Any, index: int) -> _NvidiaGpu | None:
    handle = _ask(nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return None
    memory = _ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    pci = _ask(nvml.nvmlDeviceGetPciInfo, handle)
    return _NvidiaGpu(
        index, _text(_ask(nvml.nvmlDeviceGetName, handle)), _text(_ask(nvml.nvmlDeviceGetUUID, handle)),
        _text(getattr(pci, "busId", "")), getattr(memory, "total", 0), _instances(nvml, handle), set(),
        fault_of(nvml, handle),
    )  # fmt: skip


def _instances(nvml: Any, handle: Any) -> list[tuple[str, int]] | None:
    current, _pending = _ask(nvml.nvmlDeviceGetMigMode, handle) or (0, 0)
    if not current:
        return None
    found = []
    for index in range(_ask(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        instance = _ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if instance is not None:
            memory = _ask(nvml.nvmlDeviceGetMemoryInfo, instance)
            found.append((_text(_ask(nvml.nvmlDeviceGetUUID, instance)), getattr(memory, "total", 0)))
    return found


def _add_peers(nvml: Any, gpus: Sequence[_NvidiaGpu]) -> None:
    """Pairs that reach each other by NVLink, straight or through a switch."""
    handles = {gpu.index: _ask(nvml.nvmlDeviceGetHandleByIndex, gpu.index) for gpu in gpus}
    for one in gpus:
        for two in gpus:
            if one.index < two.index:
                pair = handles[one.index], handles[two.index]
                if _ask(nvml.nvmlDeviceGetP2PStatus, *pair, nvml.NVML_P2P_CAPS_INDEX_NVLINK) == nvml.NVML_P2P_STATUS_OK:
                    one.peers.add(two.index)
                    two.peers.add(one.index)


def fault_of(nvml: Any, handle: Any) -> str:
    """What NVML says is wrong with a GPU; empty: nothing, or it cannot tell."""
    rows = _ask(nvml.nvmlDeviceGetRemappedRows, handle)
    if rows is not None:
        _corrected, _uncorrected, pending, failed = rows
        if failed:
            return "a row of its memory could not be remapped: it has to be exchanged"
        if pending:
            return "rows of its memory wait to be remapped: it has to be reset"
    errors = _ask(
        nvml.nvmlDeviceGetTotalEccErrors, handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    )
    return f"{errors} ECC errors since the driver was loaded that could not be corrected" if errors else ""


def _ask(question: Callable[..., Any], *args: Any) -> Any:
    """The answer, None for what this driver or this device does not tell."""
    try:
        return question(*args)
    except Exception:  # NVMLError, and AttributeError of a ctypes library
        return None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _any_mig(gpus: Sequence[_NvidiaGpu]) -> bool:
    return any(gpu.mig is not None for gpu in gpus)


def _find(ident: str, gpus: Sequence[_NvidiaGpu]) -> _NvidiaGpu | None:
    """By number, by a UUID or its beginning, by the name of a MIG instance in either form."""
    if ident.isdigit():
        return next((gpu for gpu in gpus if gpu.index == int(ident)), None)
    if ident.startswith("MIG-GPU-"):
        return next((gpu for gpu in gpus if gpu.uuid and ident.startswith(f"MIG-{gpu.uuid}/")), None)
    if ident.startswith("MIG-"):
        return next((gpu for gpu in gpus if any(name.startswith(ident) for name, _ in gpu.mig or ())), None)
    return next((gpu for gpu in gpus if gpu.uuid and gpu.uuid.startswith(ident)), None)


def _renumbered(named: Sequence[str], there: Sequence[_NvidiaGpu]) -> tuple[str, ...]:
    """A scheduler numbers the GPUs of the machine. Where a device cgroup has left as many as it names, those are meant,
    and the driver counts them from 0."""
    unknown = any(_find(ident, there) is None for ident in named)
    return tuple(str(gpu.index) for gpu in there) if unknown and len(there) == len(named) else tuple(named)
