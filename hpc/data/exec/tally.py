"""What one operator has done so far, and what follows from it for the next of its tasks."""

from __future__ import annotations

import math

from hpc.data.exec.waits import Wait

#: The weight of what is new in running means.
_NEW = 0.25
#: Inputs of so many bytes tell how much memory a task takes.
LARGE_BYTES = 1 << 20
#: Nobody knows what the first task of an operator takes. Where memory is scarce it runs alone.
FIRST_HEAP = 128 << 20


class Tally:
    """Counts and running means of one operator."""

    __slots__ = (
        "blocks", "bytes", "counters", "errored", "fewest", "heap_alone", "heap_factor", "largest", "least", "live",
        "longest", "mean_block", "mean_part_s", "most", "nodes", "parts", "queued_s", "received", "retries", "rows",
        "seconds", "shortest", "since", "spilled", "submitted", "until", "waits", "wall_s", "works",
    )  # fmt: skip

    def __init__(self) -> None:
        self.submitted = self.works = self.parts = self.blocks = self.rows = self.bytes = 0
        self.errored = self.retries = 0
        #: Seconds that the bodies themselves took, over all tasks.
        self.seconds = 0.0
        #: The shortest and the longest task, in seconds.
        self.shortest, self.longest = math.inf, 0.0
        #: Seconds from the submission of a task to its begin, and from there to its end, over all tasks.
        self.queued_s = self.wall_s = 0.0
        #: When its first task was submitted, and its last one ended.
        self.since = self.until = 0.0
        #: Tasks by the node where they ran.
        self.nodes: dict[str, int] = {}
        #: The smallest and the largest block, in bytes; the fewest and the most rows of one.
        self.least, self.largest = 0, 0
        self.fewest, self.most = 0, 0
        self.mean_block = 0.0
        self.mean_part_s = 0.0
        #: Bytes of heap that a task took for each byte of its input, and those that one took without large inputs.
        self.heap_factor = 0.0
        self.heap_alone = 0.0
        #: Bytes of its blocks that exist, and of those that were spilled, about; of inputs that came from elsewhere.
        self.live = 0
        self.spilled = 0.0
        self.received = 0
        self.counters: dict[str, float] = {}
        #: Seconds for which it started nothing though it was not over, by the reason.
        self.waits: dict[Wait, float] = {}

    def block(self, rows: int, nbytes: int) -> None:
        """A block has come."""
        if not self.blocks:
            self.least, self.fewest = nbytes, rows
        self.blocks += 1
        self.rows += rows
        self.bytes += nbytes
        if nbytes > self.largest:
            self.largest = nbytes
        elif nbytes < self.least:
            self.least = nbytes
        if rows > self.most:
            self.most = rows
        elif rows < self.fewest:
            self.fewest = rows
        self.mean_block += (nbytes - self.mean_block) * (_NEW if self.blocks > 4 else 1 / self.blocks)

    def work_over(self, parts: int, seconds: float, heap: int, nbytes: int, counters: dict[str, float]) -> None:
        """A task has ended: so long its parts took, and so much heap, with inputs of so many bytes."""
        self.works += 1
        self.parts += parts
        self.seconds += seconds
        self.shortest, self.longest = min(self.shortest, seconds), max(self.longest, seconds)
        for name, amount in counters.items():
            self.counters[name] = self.counters.get(name, 0.0) + amount
        if parts:
            self.mean_part_s += (seconds / parts - self.mean_part_s) * (_NEW if self.works > 4 else 1 / self.works)
        if nbytes >= LARGE_BYTES:
            factor = heap / nbytes
            self.heap_factor = max(factor, self.heap_factor + (factor - self.heap_factor) * _NEW)
        else:
            self.heap_alone = max(heap, self.heap_alone + (heap - self.heap_alone) * _NEW)

    def heap(self, nbytes: int, block: int) -> int:
        """The heap that its next task may take, with inputs of so many bytes and blocks of such a size."""
        least = 2 * block if self.works else max(2 * block, FIRST_HEAP)
        return int(max(least, self.heap_factor * nbytes if nbytes >= LARGE_BYTES else self.heap_alone, nbytes))

    def ran(self, node: str, submitted: float, began: float, now: float) -> None:
        """When and where a task that has ended well was run."""
        self.nodes[node] = self.nodes.get(node, 0) + 1
        self.queued_s += began - submitted
        self.wall_s += now - began
        self.since, self.until = self.since or submitted, now
