"""An NVML as nvidia-ml-py shows it, for machines that have none: what it is told of, and errors for the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class FakeNvmlError(Exception):
    """What the real one raises for what a device does not tell."""


@dataclass
class FakeGpu:
    """uuid, name, PCI address, memory; instances of MIG as (uuid, memory), None where it is off; rows as NVML has
    them: corrected, uncorrected, pending, failed. lost: it has fallen off the bus."""

    uuid: str
    name: str = "NVIDIA A100-SXM4-40GB"
    bus: str = ""
    memory: int = 40 << 30
    mig: list[tuple[str, int]] | None = None
    rows: tuple[int, int, bool, bool] = (0, 0, False, False)
    ecc: int = 0
    lost: bool = False


@dataclass
class FakeNvml:
    """nvlink: pairs of indices that have it."""

    gpus: list[FakeGpu]
    nvlink: set[tuple[int, int]] = field(default_factory=set)
    driver: bool = True
    opened: int = 0

    NVML_P2P_CAPS_INDEX_NVLINK = 2
    NVML_P2P_STATUS_OK = 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0

    def nvmlInit(self) -> None:
        if not self.driver:
            raise FakeNvmlError("driver not loaded")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        if self.gpus[index].lost:
            raise FakeNvmlError("GPU is lost")
        return self.gpus[index]

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> bytes:
        return gpu.name.encode()

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        return gpu.uuid

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:
        return type("Memory", (), {"total": gpu.memory})

    def nvmlDeviceGetPciInfo(self, gpu: FakeGpu) -> Any:
        return type("Pci", (), {"busId": gpu.bus.encode()})

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> tuple[int, int]:
        if gpu.name.startswith("Tesla"):
            raise FakeNvmlError("not supported")
        return (int(gpu.mig is not None),) * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: FakeGpu) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, index: int) -> FakeGpu:
        try:
            uuid, memory = (gpu.mig or [])[index]
        except IndexError:
            raise FakeNvmlError("not found") from None
        return FakeGpu(uuid, memory=memory)

    def nvmlDeviceGetRemappedRows(self, gpu: FakeGpu) -> tuple[int, int, bool, bool]:
        return gpu.rows

    def nvmlDeviceGetTotalEccErrors(self, gpu: FakeGpu, kind: int, counter: int) -> int:
        assert (kind, counter) == (1, 0)
        return gpu.ecc

    def nvmlDeviceGetP2PStatus(self, one: FakeGpu, two: FakeGpu, index: int) -> int:
        assert index == 2
        pair = self.gpus.index(one), self.gpus.index(two)
        return 0 if pair in self.nvlink else 6
