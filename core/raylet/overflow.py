"""Room beyond memory, and questions about room: what may leave it, why there is none.

When everything in the arena is pinned, objects are laid out in a file on the node's disk instead (`Overflow`). All
processes map it as they map the arena: reading there is slower, and nothing else differs. Its offsets begin where the
arena's end. Rejected: taking pinned objects away (views are plain memory), or more memory than was promised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from hpc.core.raylet.pulls import ArenaMemory
from hpc.core.raylet.spill import Spiller
from hpc.core.raylet.tables import Stored
from hpc.core.store.layout import ALIGN, Layout, OutOfSpace, rounded

MIB = 1 << 20


class Overflow:
    """The part of the offsets that lies in a file. It counts against the limit of spilled bytes."""

    def __init__(self, begin: int, arena: ArenaMemory, spiller: Spiller) -> None:
        self.begin = begin
        self.size = arena.overflow_bytes // ALIGN * ALIGN
        self.layout = Layout(self.size)
        self._arena = arena
        self._spiller = spiller
        self._sizes: dict[int, int] = {}

    def take(self, size: int, now: float, reading: bool) -> int:
        """Room for an object, on disk already: the offset, or -1 where the limit or the disk do not allow it."""
        size = rounded(size)
        if size > self._spiller.room(now, reading):
            return -1
        try:
            at = self.layout.alloc(size)
        except OutOfSpace:
            return -1
        error = self._arena.reserve(self.begin + at, size)
        if error:
            self.layout.free(at)
            self._spiller.failed(error, now)
            return -1
        self._sizes[at] = size
        self._spiller.mapped_bytes += size
        return self.begin + at

    def free(self, offset: int) -> None:
        """The object is gone, and so are its bytes on disk."""
        at = offset - self.begin
        size = self._sizes.pop(at)
        self.layout.free(at)
        self._spiller.mapped_bytes -= size
        self._arena.discard(offset, size)


def stretch(need: int, layout: Layout, objects: Collection[Stored]) -> list[Stored]:
    """Neighbours in memory that no process has pinned and that leave a hole of ``need`` bytes, for the fewest bytes to
    write. Empty if pins are everywhere."""
    by_offset = {obj.offset: obj for obj in objects if not obj.pins and not obj.busy}
    best: list[Stored] = []
    best_cost = math.inf
    run: list[tuple[int, Stored | None]] = []
    total, cost = 0, 0.0
    for offset, size, used in layout.parts():
        obj = by_offset.get(offset) if used else None
        if used and obj is None:
            run, total, cost = [], 0, 0.0
            continue
        run.append((size, obj))
        total += size
        cost += _cost(obj)
        while total - run[0][0] >= need:
            size, obj = run.pop(0)
            total -= size
            cost -= _cost(obj)
        if total >= need and cost < best_cost:
            best_cost, best = cost, [o for _, o in run if o is not None]
    return best


def _cost(obj: Stored | None) -> float:
    """What it costs to take an object out of memory, in bytes to be written."""
    return 0.0 if obj is None or obj.copy or obj.disk is not None else float(obj.size)


def why_full(
    node: int, size: int, layout: Layout, objects: Collection[Stored], describe: Callable[[int], str], disk: str
) -> str:
    """Why there is no room for so many bytes, for people. ``objects``: those in memory; ``describe``: the name of a
    process; ``disk``: what the disk does."""
    holders: dict[int, int] = {}
    for obj in objects:
        for proc in obj.pins:
            holders[proc] = holders.get(proc, 0) + obj.size
    biggest = sorted(holders.items(), key=lambda item: -item[1])[:3]
    held = "; ".join(f"{describe(proc)} reads {held // MIB} MiB" for proc, held in biggest)
    return (
        f"the object store of node {node} has no room for {size} bytes: {layout.free_bytes // MIB} of "
        f"{layout.capacity // MIB} MiB are free (the largest piece: {layout.largest_hole // MIB} MiB), "
        f"{len(objects)} objects are in memory"
        + (f", in use: {held}" if held else "")
        + f"; {disk}. Let go of values that were read, or give it more (object_store_memory=)."
    )


def too_large(node: int, layout: Layout, size: int) -> str:
    """Why this much can never fit, or nothing."""
    most = layout.capacity - layout.reserved
    if size <= most:
        return ""
    return (
        f"the object store of node {node} has no room for {size} bytes: it has {most} in all. Give it more "
        "(object_store_memory=), or use smaller objects."
    )
