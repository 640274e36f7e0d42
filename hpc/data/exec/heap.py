"""How much memory of its own a task took at its peak, beyond what its process had before.

Beside it: where Arrow takes memory from, and how what is left is given back.

The kernel keeps the peak of a process, which can be set back to what is there now. What the process maps of the object
store counts in it, and is taken off again. So does what Arrow keeps of the tasks before: a task takes that first.
"""

from __future__ import annotations

import contextlib
import os
import time
from functools import cache

import pyarrow as pa

#: What says in the environment where Arrow takes memory from, and where it takes it from if the user does not say so.
_POOL, _BACKEND = "ARROW_DEFAULT_MEMORY_POOL", "jemalloc"
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Arrow's pool keeps what is freed, for later tasks. After a task that took so much of it, it is given back.
LARGE_BYTES = 32 << 20
#: That is done once in so long, since the next task takes the same memory. jemalloc gives back by itself what nothing
#: took for a second.
GIVES_BACK_S = 1.0


class _Kept:
    """What the process had of its own when Arrow last kept nothing, as far as that is known."""

    def __init__(self) -> None:
        self.own: int | None = None
        self.given_back = 0.0


_KEPT = _Kept()


class Heap:
    """Measures from here on. ``root``: of the file system."""

    def __init__(self, root: str = "/") -> None:
        self._proc = os.path.join(root, "proc/self")
        own, self._shared = self._now()
        self._own = own if _KEPT.own is None else min(own, _KEPT.own)
        with contextlib.suppress(OSError), open(os.path.join(self._proc, "clear_refs"), "w") as file:
            file.write("5")

    def peak(self) -> int:
        """The most bytes of its own since then, beyond those that there were."""
        own, shared = self._now()
        mapped = max(0, shared - self._shared)
        return max(0, own - self._own, self._high() - mapped - self._own - self._shared)

    def give_back(self, peak: int) -> None:
        """After a task with such a peak: what Arrow keeps for later goes to the system, if that is much."""
        if peak < LARGE_BYTES:
            return
        pool, now = pa.default_memory_pool(), time.monotonic()
        if pool.backend_name == _BACKEND and now - _KEPT.given_back < GIVES_BACK_S:
            return
        pool.release_unused()
        _KEPT.own, _KEPT.given_back = self._now()[0], now

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


@cache
def use_jemalloc() -> None:
    """Have Arrow take memory from jemalloc in this process, where it has that, and the user has not said otherwise.

    mimalloc has each size of buffers in pages of 2 MiB of their own, which the system makes zero. The first task of a
    worker took 130 to 250 ms for 25 MB of buffers in seven of ten runs on two cores. It took 75 ms with jemalloc."""
    if _POOL not in os.environ and _BACKEND in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
