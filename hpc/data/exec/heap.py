"""How much memory of its own a task took at its peak, beyond what its process had before; and giving back what it left.

The kernel keeps the peak of a process, which can be set back to what is there now. What the process maps of the object
store counts in it, and is taken off again.
"""

from __future__ import annotations

import contextlib
import os

import pyarrow as pa

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Arrow's pool keeps what is freed, for later tasks. After a task that took so much of it, it is given back.
LARGE_BYTES = 32 << 20


class Heap:
    """Measures from here on. ``root``: of the file system."""

    def __init__(self, root: str = "/") -> None:
        self._proc = os.path.join(root, "proc/self")
        self._own, self._shared = self._now()
        with contextlib.suppress(OSError), open(os.path.join(self._proc, "clear_refs"), "w") as file:
            file.write("5")

    def peak(self) -> int:
        """The most bytes of its own since then, beyond those that there were."""
        own, shared = self._now()
        mapped = max(0, shared - self._shared)
        return max(0, own - self._own, self._high() - mapped - self._own - self._shared)

    def _now(self) -> tuple[int, int]:
        """Resident bytes: its own, and shared ones."""
        try:
            with open(os.path.join(self._proc, "statm"), encoding="ascii") as file:
                words = file.read().split()
        except OSError:
            return 0, 0
        return (int(words[1]) - int(words[2])) * _PAGE, int(words[2]) * _PAGE

    def _high(self) -> int:
        try:
            with open(os.path.join(self._proc, "status"), encoding="ascii") as file:
                return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), 0)
        except OSError:
            return 0


def give_back(peak: int) -> None:
    """After a task with such a peak: what Arrow keeps for later goes to the system, if that is much."""
    if peak >= LARGE_BYTES:
        pa.default_memory_pool().release_unused()
