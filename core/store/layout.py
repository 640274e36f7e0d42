"""Which part of the arena is used: a pure best-fit allocator with coalescing.

The raylet's heap holds this bookkeeping, never the shared memory itself, so a client that dies in the middle of a write
corrupts nothing. Among holes that fit equally well the lowest is taken, so that pages which were touched before are
used again. Copying into fresh shared pages is an order of magnitude slower.
"""

from __future__ import annotations

from bisect import bisect_left, insort

ALIGN = 4096


class OutOfSpace(Exception):
    """No hole is large enough."""


def rounded(size: int) -> int:
    """The bytes that an object of this size takes in the arena."""
    return max(ALIGN, (size + ALIGN - 1) // ALIGN * ALIGN)


class Layout:
    """Offsets and sizes of what is used and of the holes between, for one arena of ``capacity`` bytes.

    The first ``reserved`` bytes are never handed out.
    """

    def __init__(self, capacity: int, reserved: int = 0) -> None:
        if capacity % ALIGN or reserved % ALIGN or not 0 <= reserved <= capacity:
            raise ValueError("capacity and reserved must be multiples of the page size")
        self.capacity = capacity
        self.reserved = reserved
        self.used_bytes = 0
        self._used: dict[int, int] = {}
        self._holes: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._by_size: list[tuple[int, int]] = []
        if capacity > reserved:
            self._add_hole(reserved, capacity - reserved)

    @property
    def free_bytes(self) -> int:
        """Bytes not in use, contiguous or not."""
        return self.capacity - self.reserved - self.used_bytes

    @property
    def largest_hole(self) -> int:
        """The size of the largest object that would fit now."""
        return self._by_size[-1][0] if self._by_size else 0

    def _add_hole(self, offset: int, size: int) -> None:
        self._holes[offset] = size
        self._ends[offset + size] = offset
        insort(self._by_size, (size, offset))

    def _take_hole(self, offset: int) -> int:
        size = self._holes.pop(offset)
        del self._ends[offset + size]
        del self._by_size[bisect_left(self._by_size, (size, offset))]
        return size

    def alloc(self, size: int) -> int:
        """Take ``size`` bytes (rounded up to whole pages); returns the offset. Raises OutOfSpace."""
        need = rounded(size)
        at = bisect_left(self._by_size, (need, -1))
        if at == len(self._by_size):
            raise OutOfSpace(f"{size} bytes asked, {self.free_bytes} free, largest hole {self.largest_hole}")
        offset = self._by_size[at][1]
        hole = self._take_hole(offset)
        if hole > need:
            self._add_hole(offset + need, hole - need)
        self._used[offset] = need
        self.used_bytes += need
        return offset

    def free(self, offset: int) -> None:
        """Give back what ``alloc`` returned. Raises KeyError for anything else."""
        size = self._used.pop(offset)
        self.used_bytes -= size
        before = self._ends.get(offset)
        if before is not None:
            size += self._take_hole(before)
            offset = before
        if offset + size in self._holes:
            size += self._take_hole(offset + size)
        self._add_hole(offset, size)

    def split(self, offset: int, at: int) -> None:
        """Make two used parts of the one at ``offset``: the second begins at ``at``, on a page within it."""
        end = offset + self._used[offset]
        if at % ALIGN or not offset < at < end:
            raise ValueError(f"the part from {offset} to {end} cannot be split at {at}")
        self._used[offset] = at - offset
        self._used[at] = end - at

    def parts(self) -> list[tuple[int, int, bool]]:
        """(offset, size, whether it is used) of all parts, by offset."""
        used = [(offset, size, True) for offset, size in self._used.items()]
        return sorted(used + [(offset, size, False) for offset, size in self._holes.items()])

    def check(self) -> None:
        """Assert the invariants: used parts and holes tile the arena exactly. For tests and the simulator."""
        parts = sorted([*self._used.items(), *self._holes.items()])
        at = self.reserved
        for offset, size in parts:
            assert offset == at, f"gap or overlap at {at}: next part begins at {offset}"
            at += size
        assert at == self.capacity
        assert self.used_bytes == sum(self._used.values())
        assert sorted((s, o) for o, s in self._holes.items()) == self._by_size
