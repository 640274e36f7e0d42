"""Collectives of the ranks of one node, through memory that they share.

What is small goes in one step: each rank writes all of it, and reads what all others wrote. What is large goes in
chunks. In each step a rank reduces its own slice of the chunk before, and writes its part of the next chunk. Then it
takes the slices that the others have reduced. So every byte is reduced once, by one rank, and the chunks stay in the
caches. All ranks get the same bits: of each element the values are combined in the order of the ranks.

Arrays here are flat: numpy arrays of one dimension, contiguous. Numbers of ranks are those on this node.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpc.collective.ops import Combine
from hpc.collective.shm.segment import PAGE, Segment
from hpc.collective.shm.steps import Steps

#: Up to so many bytes each rank reads what all others wrote.
SMALL_BYTES = 16 << 10
#: The most and the least bytes of a chunk. A step costs its ranks about 7 us of waiting, so that few large ones are
#: better, until all buffers no longer stay in a third-level cache. Measured with 2 ranks, 100 MB: 64 KiB 4.8 GB/s,
#: 128 KiB 6.1, 512 KiB 7.8, 1 MiB 8.0, 2 MiB 6.2.
CHUNK_MOST, CHUNK_LEAST = 1 << 20, 128 << 10
#: Views of small sizes that are kept.
_VIEWS = 256


def buffer_bytes(ranks: int) -> int:
    """The size of a buffer on a node with so many ranks.

    Half of it takes what others will reduce, the other half what this rank has reduced."""
    chunk = max(CHUNK_LEAST, min(CHUNK_MOST, 2 * CHUNK_MOST // ranks))
    return 2 * (chunk - chunk % PAGE)


Flat = np.ndarray
_Rows = tuple[list[Flat], list[Flat]]


class LocalRanks:
    """The collectives of one rank with the others of its node.

    Before each of them the caller says by ``begin`` what it is: all ranks must do the same."""

    def __init__(self, segment: Segment, steps: Steps) -> None:
        self.segment, self.steps = segment, steps
        self.rank, self.size = segment.rank, segment.shape.ranks
        self._buffer_bytes = segment.shape.buffer_bytes
        self.others = tuple(r for r in range(self.size) if r != self.rank)
        self._buffers = [[segment.buffer(r, turn) for r in range(self.size)] for turn in (0, 1)]
        self._views: dict[tuple[int, np.dtype], _Rows] = {}

    def begin(self, word: int) -> None:
        """The next collective is this one (`ops.what`)."""
        self.steps.what = word

    def barrier(self) -> None:
        """Until all ranks are here."""
        steps = self.steps
        steps.begin()
        steps.post()
        steps.wait_all()

    # -------------------------------------------------------------- with arithmetic

    def reduce_small(self, flat: Flat, combine: Combine) -> None:
        """Combine arrays of at most `SMALL_BYTES` of all ranks, in place on each, in one step."""
        rows_of_turns = self._views.get((flat.size, flat.dtype)) or self._small(flat)
        steps = self.steps
        rows = rows_of_turns[steps.begin() & 1]
        rows[self.rank][...] = flat
        steps.post()
        steps.wait_all()
        if self.size == 1:
            return
        combine(rows[0], rows[1], flat)
        for row in rows[2:]:
            combine(flat, row, flat)

    def _small(self, flat: Flat) -> _Rows:
        """Views of all buffers in the shape of this array, which are made once for each size and type."""
        if len(self._views) >= _VIEWS:
            self._views.clear()
        even, odd = ([b[: flat.nbytes].view(flat.dtype) for b in buffers] for buffers in self._buffers)
        self._views[flat.size, flat.dtype] = even, odd
        return even, odd

    def reduce_all(self, flat: Flat, combine: Combine, root: int | None = None) -> None:
        """Combine arrays of any size of all ranks, in place: on each, or on ``root`` alone."""
        views = self._typed(flat.dtype)
        room = self._buffer_bytes // 2 // flat.itemsize
        per_chunk = max(1, room // self.size) * self.size
        before: Flat | None = None
        for at in range(0, flat.size + per_chunk, per_chunk):
            turn = self.steps.begin() & 1
            if before is not None:
                self._reduce_own(before, views[1 - turn], views[turn][self.rank][room:], combine)
            chunk = flat[at : at + per_chunk]
            self._offer(chunk, views[turn][self.rank])
            self.steps.post()
            self.steps.wait_all()
            if before is not None and (root is None or root == self.rank):
                self._take(before, views[turn], room)
            before = chunk

    def _typed(self, dtype: np.dtype) -> list[list[Flat]]:
        return [[b.view(dtype) for b in buffers] for buffers in self._buffers]

    def _slice(self, size: int, rank: int) -> tuple[int, int]:
        """From where to where a rank reduces a chunk of this size."""
        width = -(-size // self.size)
        return min(rank * width, size), min((rank + 1) * width, size)

    def _offer(self, chunk: Flat, buffer: Flat) -> None:
        """Write what the others reduce: all but the own slice, each at its place."""
        low, high = self._slice(chunk.size, self.rank)
        if low:
            buffer[:low] = chunk[:low]
        if high < chunk.size:
            buffer[high : chunk.size] = chunk[high:]

    def _reduce_own(self, chunk: Flat, rows: list[Flat], out: Flat, combine: Combine) -> None:
        """Reduce the own slice of a chunk that all have offered."""
        low, high = self._slice(chunk.size, self.rank)
        if low == high:
            return
        parts = [chunk[low:high] if r == self.rank else rows[r][low:high] for r in range(self.size)]
        result = out[: high - low]
        if self.size == 1:
            result[...] = parts[0]
            return
        combine(parts[0], parts[1], result)
        for part in parts[2:]:
            combine(result, part, result)

    def _take(self, chunk: Flat, rows: list[Flat], room: int) -> None:
        """Take the slices of a chunk that all have reduced."""
        for rank, row in enumerate(rows):
            low, high = self._slice(chunk.size, rank)
            chunk[low:high] = row[room : room + high - low]

    def reduce_scatter(self, out: Flat, inputs: Sequence[Flat], combine: Combine) -> None:
        """``out`` becomes the combination of the arrays that all ranks have for this one. ``inputs`` has one for each
        rank, of the size that this wants. ``out`` may be this rank's own input."""
        views = self._typed(out.dtype)
        width = max(1, self._buffer_bytes // out.itemsize // self.size)
        for at in range(0, max(part.size for part in inputs), width):
            turn = self.steps.begin() & 1
            mine = views[turn][self.rank]
            for rank in self.others:
                part = inputs[rank][at : at + width]
                mine[rank * width : rank * width + part.size] = part
            self.steps.post()
            self.steps.wait_all()
            place, own, low = out[at : at + width], inputs[self.rank][at : at + width], self.rank * width
            if place.size:
                self._combine(
                    [own if r == self.rank else views[turn][r][low : low + own.size] for r in range(self.size)],
                    place,
                    combine,
                )

    def _combine(self, parts: list[Flat], out: Flat, combine: Combine) -> None:
        """Combine in the order of the ranks. ``out`` may be one of the parts."""
        if len(parts) == 1:
            out[...] = parts[0]
            return
        result = np.empty_like(out)
        combine(parts[0], parts[1], result)
        for part in parts[2:]:
            combine(result, part, result)
        out[...] = result

    # -------------------------------------------------------------- without: arrays of bytes

    def broadcast(self, data: Flat, root: int) -> None:
        """All ranks get the root's bytes."""
        steps = self.steps
        for at in range(0, data.size, self._buffer_bytes):
            part = data[at : at + self._buffer_bytes]
            buffer = self._buffers[steps.begin() & 1][root]
            if self.rank == root:
                buffer[: part.size] = part
                steps.post_unseen()
                continue
            steps.post()
            steps.wait(root)
            part[...] = buffer[: part.size]

    def all_gather(self, outputs: Sequence[Flat], data: Flat) -> None:
        """Output r gets the bytes of rank r, as many as it has room for. ``data`` may be the own output."""
        for at in range(0, max(out.size for out in outputs), self._buffer_bytes):
            part = data[at : at + self._buffer_bytes]
            buffers = self._buffers[self.steps.begin() & 1]
            buffers[self.rank][: part.size] = part
            self.steps.post()
            self.steps.wait_all()
            for rank in range(self.size):
                place = outputs[rank][at : at + self._buffer_bytes]
                place[...] = part if rank == self.rank else buffers[rank][: place.size]

    def gather(self, outputs: Sequence[Flat] | None, data: Flat, root: int) -> None:
        """On the root, output r gets the bytes of rank r."""
        for at in range(0, data.size, self._buffer_bytes):
            part = data[at : at + self._buffer_bytes]
            buffers = self._buffers[self.steps.begin() & 1]
            if self.rank != root:
                buffers[self.rank][: part.size] = part
            if outputs is None:
                self.steps.post_unseen()
                continue
            self.steps.post()
            self.steps.wait_all()
            for rank in range(self.size):
                outputs[rank][at : at + part.size] = part if rank == root else buffers[rank][: part.size]

    def scatter(self, out: Flat, inputs: Sequence[Flat] | None, root: int) -> None:
        """Each rank gets the bytes that the root has for it."""
        width = self._buffer_bytes // self.size
        for at in range(0, out.size, width):
            part = out[at : at + width]
            buffer = self._buffers[self.steps.begin() & 1][root]
            if inputs is not None:
                for rank in self.others:
                    buffer[rank * width : rank * width + part.size] = inputs[rank][at : at + width]
            if inputs is None:
                self.steps.post()
                self.steps.wait(root)
                part[...] = buffer[self.rank * width : self.rank * width + part.size]
            else:
                self.steps.post_unseen()
                part[...] = inputs[self.rank][at : at + width]

    def all_to_all(self, outputs: Sequence[Flat], inputs: Sequence[Flat]) -> None:
        """Output r gets the bytes that rank r has for this one. All have as many for each."""
        width = self._buffer_bytes // self.size
        own = outputs[self.rank]
        for at in range(0, own.size, width):
            n = min(width, own.size - at)
            buffers = self._buffers[self.steps.begin() & 1]
            for rank in self.others:
                buffers[self.rank][rank * width : rank * width + n] = inputs[rank][at : at + n]
            self.steps.post()
            self.steps.wait_all()
            low = self.rank * width
            for rank in self.others:
                outputs[rank][at : at + n] = buffers[rank][low : low + n]
            own[at : at + n] = inputs[self.rank][at : at + n]
