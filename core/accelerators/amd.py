"""AMD's GPUs, by the files of the kernel driver (KFD).

ROCR_VISIBLE_DEVICES comes first: it leaves some devices, by number or UUID, and those are counted from 0 again.
HIP_VISIBLE_DEVICES numbers what is left. A device's id is what the second one takes, so a process keeps the first
as its node has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence

from msgspec import Struct

from hpc.core.accelerators.base import Device, parse_ids
from hpc.core.accelerators.face import Probe, Vendor, linked

TOPOLOGY = "sys/class/kfd/kfd/topology/nodes"
XGMI = 11  # the type of a link between GPUs that does not go through the host
LOCAL_HEAPS = (1, 2)
#: Kinds by the PCI number of the device.
KINDS = {
    0x66A1: "AMD-Instinct-MI50", 0x738C: "AMD-Instinct-MI100", 0x7408: "AMD-Instinct-MI250X",
    0x740C: "AMD-Instinct-MI250X-MI250", 0x740F: "AMD-Instinct-MI210", 0x74A0: "AMD-Instinct-MI300A",
    0x74A1: "AMD-Instinct-MI300X-OAM", 0x74A2: "AMD-Instinct-MI308X-OAM", 0x74A9: "AMD-Instinct-MI300X-HF",
    0x74A5: "AMD-Instinct-MI325X-OAM", 0x75A0: "AMD-Instinct-MI350X-OAM", 0x75A3: "AMD-Instinct-MI355X-OAM",
    0x6798: "AMD-Radeon-R9-200-HD-7900", 0x6799: "AMD-Radeon-HD-7900", 0x679A: "AMD-Radeon-HD-7900",
    0x679B: "AMD-Radeon-HD-7900",
}  # fmt: skip


class _AmdGpu(Struct, frozen=True):
    """A node of KFD that is a GPU: its number among all nodes, its UUID, and what the driver says of it."""

    node: str
    uuid: str
    device: Device
    peers: tuple[str, ...]


class Amd(Vendor):
    """GPUs that HIP_VISIBLE_DEVICES numbers, within those that ROCR_VISIBLE_DEVICES leaves."""

    name = "amd"
    resource = "GPU"
    variable = "HIP_VISIBLE_DEVICES"
    noset = "RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES"
    outer = "ROCR_VISIBLE_DEVICES"

    def present(self, probe: Probe) -> bool:
        return probe.exists("dev/kfd") and next(_gpus(probe), None) is not None

    def spoken_of(self, environ: Mapping[str, str]) -> bool:
        return self.variable in environ or self.outer in environ

    def detect(self, probe: Probe, named: Sequence[str] = ()) -> tuple[Device, ...]:
        environ = probe.environ
        there: list[_AmdGpu] | None = list(_gpus(probe)) or None
        if self.outer in environ:
            there = _left(parse_ids(environ[self.outer]), there)
        ids = self.granted(environ)
        if ids is None and self.outer not in environ:
            if "CUDA_VISIBLE_DEVICES" in environ:  # HIP takes it for its own where that is not set
                ids = parse_ids(environ["CUDA_VISIBLE_DEVICES"])
            elif named:
                everything = there is not None and len(there) == len(named)
                ids = None if everything else tuple(named)
        if there is None:
            return tuple(Device(ident, self.resource, vendor=self.name) for ident in ids or ())
        chosen = self.chosen([self._numbered(gpu, index) for index, gpu in enumerate(there)], ids)
        by_node = {gpu.node: str(index) for index, gpu in enumerate(there)}
        granted = {device.id for device in chosen}
        return tuple(
            linked(device, [by_node[n] for n in there[int(device.id)].peers if by_node.get(n) in granted])
            for device in chosen
        )

    def _numbered(self, gpu: _AmdGpu, index: int) -> Device:
        device = gpu.device
        return Device(
            str(index), self.resource, device.kind, device.memory_bytes, device.numa_node, (), device.cpus, self.name
        )

    def set(self, ids: tuple[str, ...], devices: tuple[Device, ...], environ: MutableMapping[str, str]) -> None:
        visible = ",".join(ids) or "-1"  # HIP takes an empty text for no restriction
        environ[self.variable] = visible
        if "CUDA_VISIBLE_DEVICES" in environ:
            environ["CUDA_VISIBLE_DEVICES"] = visible

    def hide(self, environ: MutableMapping[str, str]) -> None:
        self.show((), (), environ)


def _left(ids: Sequence[str], there: Sequence[_AmdGpu] | None) -> list[_AmdGpu]:
    """The GPUs that ROCR_VISIBLE_DEVICES leaves, in its order. Where no files say what there is, it is believed."""
    if there is None:
        return [_AmdGpu(ident, ident, Device(ident, Amd.resource), ()) for ident in ids]
    left = []
    for ident in ids:
        fits = [gpu for index, gpu in enumerate(there) if ident in (str(index), gpu.uuid)]
        if not fits:
            break
        left += fits
    return left


def _gpus(probe: Probe) -> Iterator[_AmdGpu]:
    """The GPUs that this process may use, in the order in which ROCm counts them."""
    for node in probe.names(TOPOLOGY, r"\d+"):
        facts = _facts(probe, TOPOLOGY, node, "properties")
        minor = facts.get("drm_render_minor", 0)
        if not facts.get("simd_count") or not probe.openable(f"dev/dri/renderD{minor}"):
            continue
        banks = f"{TOPOLOGY}/{node}/mem_banks"
        memory = [_facts(probe, banks, bank, "properties") for bank in probe.names(banks)]
        links = f"{TOPOLOGY}/{node}/io_links"
        ends = [_facts(probe, links, link, "properties") for link in probe.names(links)]
        numa, cpus = probe.neighbours(f"sys/class/drm/renderD{minor}/device")
        yield _AmdGpu(
            node,
            f"GPU-{facts.get('unique_id', 0):016x}",
            Device(
                node, Amd.resource, KINDS.get(facts.get("device_id", 0), ""),
                sum(bank.get("size_in_bytes", 0) for bank in memory if bank.get("heap_type") in LOCAL_HEAPS),
                numa, (), cpus, Amd.name,
            ),
            tuple(str(end["node_to"]) for end in ends if end.get("type") == XGMI and "node_to" in end),
        )  # fmt: skip


def _facts(probe: Probe, *path: str) -> dict[str, int]:
    pairs = (line.split() for line in probe.text(*path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
