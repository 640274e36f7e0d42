"""A machine that is not there, in files: NUMA nodes and GPUs, by the CPUs that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

CPUS = sorted(os.sched_getaffinity(0))


def two_numa_nodes(root: Path, gpus: int) -> str:
    """The first CPU is on one NUMA node, the others are on another one; the GPUs are on both in turn."""
    parts = [",".join(map(str, cpus)) for cpus in (CPUS[:1], CPUS[1:])]
    for node, cpus in enumerate(parts):
        folder = f"sys/devices/system/node/node{node}"
        _write(root / folder / "cpulist", cpus)
        _write(root / folder / "distance", "10 20" if node == 0 else "20 10")
    for gpu in range(gpus):
        node, bus = gpu % 2, f"0000:0{gpu}:00.0"
        _write(root / f"dev/nvidia{gpu}", "")
        facts = f"Model: NVIDIA A100-SXM4-40GB\nGPU UUID: GPU-{gpu}\nDevice Minor: {gpu}"
        _write(root / f"proc/driver/nvidia/gpus/{bus}/information", facts)
        _write(root / f"sys/bus/pci/devices/{bus}/numa_node", str(node))
        _write(root / f"sys/bus/pci/devices/{bus}/local_cpulist", parts[node])
    return str(root)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
