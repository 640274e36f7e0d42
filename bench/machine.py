"""What the figures were measured on. No host name, no user, no paths: the file is published."""

from __future__ import annotations

import compileall
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def describe() -> dict[str, Any]:
    """CPU, memory, kernel, and the commit that is measured."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "virtual": "hypervisor" in (_field("/proc/cpuinfo", "flags") or "").split(),
        "commit": commit(),
    }


def compile_ours() -> None:
    """As an installer does. Else each process would compile all of hpc where Python was told to keep no bytecode: that
    takes longer than all the rest of a node's start, and makes the imports of a first query three times as long."""
    for folder in ("core", "hpc", "launchers"):
        compileall.compile_dir(str(ROOT / folder), quiet=2)


def noise() -> dict[str, float]:
    """How busy the machine is with other things: its load, and the CPU time that the hypervisor gave to others."""
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:]]
    return {"load": os.getloadavg()[0], "steal_ticks": ticks[7] if len(ticks) > 7 else 0, "all_ticks": sum(ticks[:8])}


def commit() -> str:
    """The commit, with a + where files of the package differ from it; empty outside a clone."""

    def git(*args: str) -> str:
        try:
            done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, timeout=30)
        except OSError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    name = git("rev-parse", "--short", "HEAD")
    return name + "+" if name and git("status", "--porcelain", "--", "hpc", "core", "launchers") else name


def _field(path: str, name: str) -> str | None:
    try:
        with open(path) as file:
            for text in file:
                key, _, value = text.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return None
