"""How much of the memory that this node may use is in use: the figures of the job's cgroups, or of the machine.

The kernel ends processes when a cgroup reaches its limit. Pages of files that can be given back at once (inactive page
cache) do not count here. Otherwise writing a file would look like running out of memory. Shared memory is charged to
the cgroup once, however many processes map it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec import Struct

from hpc.core.node.detect import UNLIMITED_BYTES, cgroup_chain
from hpc.core.node.reading import text_of


class Usage(Struct, frozen=True):
    """Bytes in use, and how many there may be; ``where`` says whose limit that is. ``shared_bytes``: of those in use,
    memory that processes share, as object stores are."""

    used_bytes: int
    limit_bytes: int
    where: str
    shared_bytes: int = 0

    @property
    def share(self) -> float:
        """Used of the limit."""
        return self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


def memory_folders(root: str = "/") -> list[tuple[int, str]]:
    """(version, folder) of the cgroups whose memory is limited, from this process's own upwards."""
    return [entry for entry in cgroup_chain("memory", root) if _limit(*entry) is not None]


def memory_usage(folders: Sequence[tuple[int, str]], root: str = "/") -> Usage:
    """The tightest of the cgroups and the machine."""
    tightest = _machine(root)
    for version, folder in folders:
        limit = _limit(version, folder)
        if limit is None:
            continue
        if version == 2:
            used, below = _number(folder, "memory.current"), ""
        else:
            used, below = _number(folder, "memory.usage_in_bytes"), "total_"
        cache, shared = _stat(folder, f"{below}inactive_file"), _stat(folder, f"{below}shmem")
        usage = Usage(max(0, (used or 0) - cache), limit, f"the limit of the cgroup {folder}", shared)
        if usage.share > tightest.share:
            tightest = usage
    return tightest


def oom_kills(folders: Sequence[tuple[int, str]]) -> int:
    """How many processes the kernel has ended in these cgroups for want of memory."""
    total = 0
    for version, folder in folders:
        total += _stat(folder, "oom_kill", "memory.events" if version == 2 else "memory.oom_control")
    return total


def private_bytes(pid: int, root: str = "/") -> int:
    """Memory of a process that is its own: resident and not shared. 0 if it is gone."""
    try:
        with open(os.path.join(root, f"proc/{pid}/statm"), encoding="ascii") as file:
            words = file.read().split()
        return max(0, int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def _limit(version: int, folder: str) -> int | None:
    limit = _number(folder, "memory.max" if version == 2 else "memory.limit_in_bytes")
    return limit if limit and limit < UNLIMITED_BYTES else None


def _number(folder: str, name: str) -> int | None:
    text = text_of(os.path.join(folder, name)).strip()
    return int(text) if text.isdigit() else None


def _stat(folder: str, key: str, name: str = "memory.stat") -> int:
    for line in text_of(os.path.join(folder, name)).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == key and words[1].isdigit():
            return int(words[1])
    return 0


def _machine(root: str) -> Usage:
    found = {"MemTotal:": 0, "MemAvailable:": 0, "Shmem:": 0}
    for line in text_of(os.path.join(root, "proc/meminfo")).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] in found:
            found[words[0]] = int(words[1]) * 1024
    total = found["MemTotal:"]
    used = max(0, total - found["MemAvailable:"])
    return Usage(used, total, "the machine's memory", found["Shmem:"])
