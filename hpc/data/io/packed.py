"""Small local files, read one behind the other into the memory of their column: no object for each, and no copy."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import pyarrow as pa

#: A column ends with the file that fills it up to so many bytes. It has room for a little more.
FULL = 4 << 20
ROOM = FULL + (64 << 10)
#: What offsets of 32 bits reach.
MOST = (1 << 31) - 1


class Column(NamedTuple):
    """The contents of some files, and their paths."""

    values: pa.Array
    paths: list[str]


class Packed:
    """Contents that are being read. ``ready`` are the columns that are full."""

    def __init__(self) -> None:
        self.ready: list[Column] = []
        self._begin(0)

    def _begin(self, room: int) -> None:
        self._buffer = pa.allocate_buffer(room)
        self._view = memoryview(self._buffer)
        self._room = room
        self._ends: list[int] = []
        self._paths: list[str] = []
        self._at = 0

    def add(self, path: str) -> None:
        """Read a file: four system calls. Nothing has changed where it raises."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if self._at + size > self._room:
                if size > MOST:
                    raise ValueError(f"a file of {size} bytes is more than a cell of a column can have")
                self.end()
                self._begin(max(ROOM, size))
            at = self._at
            end = at + size
            while at < end:
                count = os.readv(descriptor, [self._view[at:end]])
                if not count:  # It is shorter now.
                    break
                at += count
        finally:
            os.close(descriptor)
        self._at = at
        self._ends.append(at)
        self._paths.append(path)
        if at >= FULL:
            self.end()

    def end(self) -> None:
        """What was read up to here is a column."""
        if not self._paths:
            return
        offsets = np.zeros(len(self._ends) + 1, np.int32)
        offsets[1:] = self._ends
        buffers = [None, pa.py_buffer(offsets), self._buffer.slice(0, self._at)]
        self.ready.append(Column(pa.Array.from_buffers(pa.binary(), len(self._ends), buffers), self._paths))
        self._begin(0)

    def taken(self) -> list[Column]:
        """The columns that are full; they are no longer here."""
        taken, self.ready = self.ready, []
        return taken
