"""What the kernel and NVML say of a node: how busy its CPUs and GPUs are, its memory, its network.

CPU time is that of the job's cgroup where it has a quota, else that of the CPUs which the process may use. The raylet
asks as often as metrics are told: about 0.3 ms each time. NVML is asked on a thread of its own, for a driver may take
its time: what it said last is told.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from hpc.core.accelerators.base import Device
from hpc.core.metrics import table
from hpc.core.metrics.sample import Sample, counted, gauge
from hpc.core.node.detect import cgroup_chain, cgroup_cpu_quota
from hpc.core.node.reading import text_of
from hpc.core.node.usage import memory_folders, memory_usage

#: What was said of GPUs counts no more after this time.
OLD_S = 30.0


class Host:
    """One node's. ``cpus``: how many it was granted."""

    def __init__(self, cpus: float, devices: Sequence[Device] = (), root: str = "/") -> None:
        self._root = root
        self._cpus = cpus
        self._folders = memory_folders(root)
        self._usage = cpu_usage(root)
        self._busy = Growing()
        self._own = Growing()
        self._net = {"received": Growing(), "sent": Growing()}
        self._asked_at = 0.0
        self._gpus = Gpus([device.id for device in devices if device.vendor == "nvidia"])

    def samples(self, now: float) -> list[Sample]:
        """All of them now, and what has grown since they were asked for last."""
        spent_s, self._asked_at = now - self._asked_at, now
        found = [gauge(table.CPUS, self._cpus)]
        busy_s, cpus = self._usage()
        more_s = self._busy.more(busy_s)
        if more_s is not None and spent_s > 0:
            found.append(counted(table.CPU_SECONDS, more_s))
            found.append(gauge(table.CPU_RATIO, min(1.0, more_s / spent_s / max(cpus, 0.01))))
        memory = memory_usage(self._folders, self._root)
        found.append(gauge(table.MEMORY, memory.used_bytes, ("kind", "used")))
        found.append(gauge(table.MEMORY, memory.limit_bytes, ("kind", "limit")))
        found.append(gauge(table.MEMORY_RATIO, memory.share))
        for direction, value in zip(self._net, net_bytes(self._root)):
            if more := self._net[direction].more(value):
                found.append(counted(table.NET, more, ("direction", direction)))
        if more := self._own.more(time.process_time()):
            found.append(counted(table.RUNTIME_CPU, more, ("process", "raylet")))
        return found + self._gpus.samples(now)


class Growing:
    """A number that grows, from when it was seen first."""

    def __init__(self) -> None:
        self._last: float | None = None

    def more(self, value: float) -> float | None:
        """How much it has grown since it was seen last; None the first time."""
        last, self._last = self._last, value
        return None if last is None else max(0.0, value - last)


def cpu_usage(root: str = "/") -> Callable[[], tuple[float, float]]:
    """How to ask for the seconds of CPU that were used so far, and the number of CPUs that they are of."""
    quota = cgroup_cpu_quota(root)
    if quota is not None:
        chain = [one for one in cgroup_chain("cpu", root) if one[0] == 2] + cgroup_chain("cpuacct", root)
        for version, folder in chain:
            reader = _of_cgroup(version, folder)
            if reader is not None:
                return lambda: (reader(), quota)
    mine = os.sched_getaffinity(0)
    return lambda: (busy_of(mine, root), len(mine))


def _of_cgroup(version: int, folder: str) -> Callable[[], float] | None:
    def of_stat() -> float:
        words = text_of(os.path.join(folder, "cpu.stat")).split()
        return int(words[words.index("usage_usec") + 1]) / 1e6 if "usage_usec" in words else 0.0

    def of_account() -> float:
        return int(text_of(os.path.join(folder, "cpuacct.usage")).strip() or 0) / 1e9

    if version == 2:
        return of_stat if "usage_usec" in text_of(os.path.join(folder, "cpu.stat")) else None
    return of_account if text_of(os.path.join(folder, "cpuacct.usage")).strip().isdigit() else None


def busy_of(cpus: set[int], root: str = "/") -> float:
    """Seconds that these CPUs have worked since the machine started."""
    ticks = 0
    for line in text_of(os.path.join(root, "proc/stat")).splitlines():
        if line.startswith("cpu") and line[3].isdigit():
            words = line.split()
            if int(words[0][3:]) in cpus:
                numbers = [int(word) for word in words[1:9]]
                ticks += sum(numbers) - numbers[3] - (numbers[4] if len(numbers) > 4 else 0)  # idle, waiting for disks
    return ticks / os.sysconf("SC_CLK_TCK")


def net_bytes(root: str = "/") -> tuple[int, int]:
    """Bytes that were received and sent by all interfaces that lead elsewhere."""
    received = sent = 0
    for line in text_of(os.path.join(root, "proc/net/dev")).splitlines()[2:]:
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) >= 9 and name.strip() != "lo":
            received, sent = received + int(words[0]), sent + int(words[8])
    return received, sent


class Gpus:
    """NVIDIA's GPUs of the node, as NVML sees them; nothing where nvidia-ml-py is not installed."""

    def __init__(self, idents: Sequence[str]) -> None:
        self._idents = list(idents)
        self._found: tuple[float, list[Sample]] = (0.0, [])
        self._wanted = threading.Event()
        if self._idents:
            threading.Thread(target=self._ask, name="hpc-gpus", daemon=True).start()

    def samples(self, now: float) -> list[Sample]:
        """What was said last, if it is not old; it is asked anew."""
        self._wanted.set()
        at, found = self._found
        return found if now - at < OLD_S else []

    def _ask(self) -> None:
        nvml = open_nvml()
        if nvml is None:
            return
        handles = [handle for ident in self._idents if (handle := handle_of(nvml, ident)) is not None]
        while True:
            self._wanted.wait()
            self._wanted.clear()
            self._found = (time.monotonic(), [sample for handle in handles for sample in ask_gpu(nvml, handle)])


def open_nvml() -> Any:
    """NVML, or None where it cannot be had."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml
    except Exception:  # no package, no driver, no permission
        return None


def handle_of(nvml: Any, ident: str) -> Any:
    """A device by its index or name; None for an instance of MIG, which does not tell how busy it is."""
    try:
        return nvml.nvmlDeviceGetHandleByIndex(int(ident)) if ident.isdigit() else nvml.nvmlDeviceGetHandleByUUID(ident)
    except Exception:
        return None


def ask_gpu(nvml: Any, handle: Any) -> list[Sample]:
    """What one GPU says; what it does not tell is left out."""
    found: list[Sample] = []
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        found.append(gauge(table.GPU_MEMORY, memory.used, ("kind", "used")))
        found.append(gauge(table.GPU_MEMORY, memory.total, ("kind", "total")))
        found.append(gauge(table.GPU_MEMORY_RATIO, memory.used / memory.total))
    except Exception:
        pass
    try:
        found.append(gauge(table.GPU_RATIO, nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100))
    except Exception:
        pass
    try:
        found.append(gauge(table.GPU_POWER, nvml.nvmlDeviceGetPowerUsage(handle) / 1000))
    except Exception:
        pass
    return found
