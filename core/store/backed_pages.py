"""Which parts of a memory file are known to be backed by memory.

Asking the kernel for the pages of a range (``posix_fallocate``) walks all of them, even where all are there. That takes
5 ms for 100 MB, as much as copying them. The arena never gives pages back, so a process that has asked once for a part
need not ask again. Kept as sorted intervals of pages that do not touch; pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

PAGE_BYTES = 4096


class BackedPages:
    """A set of pages, as intervals."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        return len(self._starts)

    def covers(self, offset: int, size: int) -> bool:
        """Whether all pages of these bytes are in the set."""
        first, end = _pages(offset, size)
        at = bisect_right(self._starts, first) - 1
        return at >= 0 and end <= self._ends[at]

    def add(self, offset: int, size: int) -> None:
        """Put all pages of these bytes into the set."""
        first, end = _pages(offset, size)
        low = bisect_left(self._ends, first)  # the first interval that ends where this begins, or later
        high = bisect_right(self._starts, end)  # behind the last one that begins where this ends, or earlier
        if low < high:
            first, end = min(first, self._starts[low]), max(end, self._ends[high - 1])
        self._starts[low:high] = [first]
        self._ends[low:high] = [end]


def _pages(offset: int, size: int) -> tuple[int, int]:
    return offset // PAGE_BYTES, -(-(offset + size) // PAGE_BYTES)
