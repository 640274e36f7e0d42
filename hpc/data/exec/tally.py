"""What one operator has done so far, and what follows from it for the next of its tasks."""

from __future__ import annotations

from hpc.data.exec.waits import Wait

#: The weight of what is new in running means.
_NEW = 0.25


class Tally:
    """Counts and running means of one operator."""

    __slots__ = (
        "blocks", "bytes", "counters", "errored", "heap_factor", "largest", "mean_block", "mean_part_s", "parts",
        "retries", "rows", "seconds", "submitted", "waits", "works",
    )  # fmt: skip

    def __init__(self) -> None:
        self.submitted = self.works = self.parts = self.blocks = self.rows = self.bytes = 0
        self.errored = self.retries = 0
        #: Seconds that the bodies themselves took, over all tasks.
        self.seconds = 0.0
        self.largest = 0
        self.mean_block = 0.0
        self.mean_part_s = 0.0
        #: Bytes of heap that a task took for each byte of its input or output; learned.
        self.heap_factor = 0.0
        self.counters: dict[str, float] = {}
        #: Seconds for which it started nothing though it was not over, by the reason.
        self.waits: dict[Wait, float] = {}

    def block(self, rows: int, nbytes: int) -> None:
        """A block has come."""
        self.blocks += 1
        self.rows += rows
        self.bytes += nbytes
        self.largest = max(self.largest, nbytes)
        self.mean_block += (nbytes - self.mean_block) * (_NEW if self.blocks > 4 else 1 / self.blocks)

    def work_over(self, parts: int, seconds: float, heap: int, nbytes: int, counters: dict[str, float]) -> None:
        """A task has ended: so long its parts took, and so much heap."""
        self.works += 1
        self.parts += parts
        self.seconds += seconds
        for name, amount in counters.items():
            self.counters[name] = self.counters.get(name, 0.0) + amount
        if parts:
            self.mean_part_s += (seconds / parts - self.mean_part_s) * (_NEW if self.works > 4 else 1 / self.works)
        if nbytes >= 1 << 20:
            factor = heap / nbytes
            self.heap_factor = max(factor, self.heap_factor + (factor - self.heap_factor) * _NEW)
