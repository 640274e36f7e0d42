"""What a node says of its CPUs, memory, network and GPUs, read from files of the kernel and from NVML."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpc.core.accelerators.base import Device
from hpc.core.metrics import table
from hpc.core.raylet import host as module
from hpc.core.raylet.host import Host, busy_of, cpu_usage, net_bytes

MEMORY = "MemTotal: 1000 kB\nMemAvailable: 250 kB\n"


class Machine:
    """A folder with files of the kernel."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)

    def put(self, path: str, text: str) -> None:
        target = Path(self.root) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def cpus(self, ticks: int) -> None:
        lines = [f"cpu{number} {ticks} 0 0 500 77 0 0 0 0 0" for number in sorted(os.sched_getaffinity(0))]
        self.put("proc/stat", "\n".join(["cpu 9 9 9 9 9", *lines, "cpu9999 1000000 0 0 0 0 0 0 0", "intr 1"]))

    def net(self, received: int, sent: int) -> None:
        lines = [
            "Inter-| Receive",
            " face |bytes",
            "    lo: 5 0 0 0 0 0 0 0 5 0",
            f"  ib0:{received} 0 0 0 0 0 0 0 {sent} 0",
        ]
        self.put("proc/net/dev", "\n".join(lines))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.put("proc/meminfo", MEMORY)
    made.cpus(1000)
    made.net(100, 50)
    return made


def values(samples: list[module.Sample]) -> dict[tuple[str, ...], float]:
    return {(one.name, *one.labels): one.total for one in samples}


def test_cpus_are_those_that_the_process_may_use(machine):
    mine = os.sched_getaffinity(0)
    assert busy_of(mine, machine.root) == pytest.approx(len(mine) * 1000 / os.sysconf("SC_CLK_TCK"))
    assert cpu_usage(machine.root)()[1] == len(mine)


def test_with_a_quota_it_is_the_cgroup_that_counts(machine):
    machine.put("proc/self/cgroup", "0::/job\n")
    machine.put("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    machine.put("sys/fs/cgroup/job/cpu.max", "400000 100000\n")
    machine.put("sys/fs/cgroup/job/cpu.stat", "usage_usec 2500000\nuser_usec 1\n")
    assert cpu_usage(machine.root)() == (2.5, 4.0)


def test_with_a_quota_of_the_older_kind_too(machine):
    machine.put("proc/self/cgroup", "1:cpu,cpuacct:/job\n")
    machine.put("proc/self/mountinfo", "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n")
    machine.put("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "200000\n")
    machine.put("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    machine.put("sys/fs/cgroup/cpu/job/cpuacct.usage", "3000000000\n")
    assert cpu_usage(machine.root)() == (3.0, 2.0)


def test_the_loopback_is_no_network(machine):
    assert net_bytes(machine.root) == (100, 50)


def test_what_grows_is_told_as_what_it_grew_by(machine):
    host = Host(4.0, root=machine.root)
    first = values(host.samples(10.0))
    assert (table.NET, "direction", "sent") not in first and (table.CPU_RATIO,) not in first
    assert first[(table.MEMORY_RATIO,)] == 0.75 and first[(table.MEMORY, "kind", "limit")] == 1000 * 1024
    machine.cpus(1000 + 5 * os.sysconf("SC_CLK_TCK"))
    machine.net(1100, 50)
    second = values(host.samples(20.0))
    assert second[(table.CPU_RATIO,)] == pytest.approx(0.5)
    assert second[(table.CPU_SECONDS,)] == pytest.approx(5.0 * len(os.sched_getaffinity(0)))
    assert second[(table.NET, "direction", "received")] == 1000 and (table.NET, "direction", "sent") not in second


def test_gpus_are_asked_on_a_thread_and_what_one_does_not_tell_is_left_out(machine, monkeypatch):
    asked = threading.Event()

    def power(handle: str) -> int:
        asked.set()
        if handle == "second":
            raise OSError("not supported")
        return 250_000

    nvml = SimpleNamespace(
        nvmlDeviceGetHandleByIndex=lambda index: ["first", "second"][index],
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=10, total=40),
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=90 if handle == "first" else 30),
        nvmlDeviceGetPowerUsage=power,
    )
    monkeypatch.setattr(module, "open_nvml", lambda: nvml)
    found = [sample for handle in ("first", "second") for sample in module.ask_gpu(nvml, handle)]
    assert [one.total for one in found if one.name == table.GPU_RATIO] == [0.9, 0.3]
    assert [one.total for one in found if one.name == table.GPU_POWER] == [250.0]
    asked.clear()
    host = Host(1.0, [Device("0", "GPU", vendor="nvidia"), Device("1", "GPU", vendor="nvidia")], machine.root)
    host.samples(0.0)
    assert asked.wait(10), "the thread asks when samples are wanted"
