"""The memory that the ranks of one node share, and the counters by which they wait for each other.

The memory is a memfd: it has no name in any file system, so that nothing stays behind, however its processes end. The
first rank makes it. The others open it through /proc, which the kernel lets processes of the same user do.

Every collective is a sequence of *steps*. In a step a rank writes into its own buffer, and says so by its counter. Then
it waits for the counters of the ranks whose buffers it reads, and reads. Each rank has two buffers, used by turns. A
rank that begins step k has read all that it wanted of step k - 1. So a rank may write for step k as soon as all others
have begun step k - 1. Nobody reads any more what it wrote for step k - 2. That one rule keeps all operations apart,
whatever they are.

For messages from one rank to another each pair has counters and two buffers of its own.
"""

from __future__ import annotations

import mmap
import os
import platform
import threading
from typing import NamedTuple

import numpy as np

#: Bytes from one rank's counters to the next one's: two cache lines, which x86 fetches together.
_STRIDE = 128
WORDS = _STRIDE // 8
PAGE = 4096
#: Words of a rank, or a pair: how many steps it has written, and what it does in even and in odd ones. On another cache
#: line: that it has left; for a pair how many have been read.
WRITTEN, WHAT, LEFT, READ = 0, 1, 8, 8
#: Where the text of an end stands: after the word that says that there is one.
_TEXT_AT, _TEXT_MOST = 64, 2048
#: Whether the processor shows writes to others in the order in which they were made.
_ORDERED = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")


class Shape(NamedTuple):
    """How the memory is divided: the ranks, the bytes of each of their buffers, and of those of each pair."""

    ranks: int
    buffer_bytes: int
    pair_bytes: int

    @property
    def total(self) -> int:
        """All bytes. What nobody writes takes no memory."""
        return self.pair_data_at + self.ranks**2 * 2 * self.pair_bytes

    @property
    def pairs_at(self) -> int:
        return PAGE + _pages(self.ranks * _STRIDE)

    @property
    def data_at(self) -> int:
        return self.pairs_at + _pages(self.ranks**2 * _STRIDE)

    @property
    def pair_data_at(self) -> int:
        return self.data_at + self.ranks * 2 * self.buffer_bytes


def _pages(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE


def fence() -> None:
    """Call between the writing of data and of the counter that tells of it, and between reading the one and the other.

    Processors that may swap two writes, or two reads, get the release and the acquisition of a lock."""
    if not _ORDERED:
        lock = threading.Lock()
        lock.acquire()
        lock.release()
        lock.acquire()


class Segment:
    """One rank's mapping of the shared memory."""

    def __init__(self, fd: int, rank: int, shape: Shape) -> None:
        self.rank, self.shape = rank, shape
        self._map = mmap.mmap(fd, shape.total)
        whole = memoryview(self._map)
        self._head = whole[:PAGE]
        self._end = self._head.cast("Q")
        #: The words of rank r begin at r * WORDS.
        self.counters = whole[PAGE : shape.pairs_at].cast("Q")
        #: The words of what rank s sends to rank d begin at (s * ranks + d) * WORDS.
        self.pairs = whole[shape.pairs_at : shape.data_at].cast("Q")
        self._data = np.frombuffer(self._map, np.uint8)

    @classmethod
    def create(cls, shape: Shape) -> tuple[Segment, int]:
        """The first rank's, and the descriptor by which others open it. Close that when they have."""
        fd = os.memfd_create("hpc-collective", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, shape.total)
            return cls(fd, 0, shape), fd
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def open(cls, pid: int, fd: int, rank: int, shape: Shape) -> Segment:
        """Another rank's.

        Raises OSError where /proc does not lead to it: the ranks do not see each other's processes."""
        mine = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            return cls(mine, rank, shape)
        finally:
            os.close(mine)

    def buffer(self, rank: int, turn: int) -> np.ndarray:
        """The buffer of a rank for even (0) or odd (1) steps, as bytes."""
        at = self.shape.data_at + (rank * 2 + turn) * self.shape.buffer_bytes
        return self._data[at : at + self.shape.buffer_bytes]

    def pair_buffer(self, source: int, destination: int, turn: int) -> np.ndarray:
        """The buffer of a pair for its even or odd messages."""
        pair = source * self.shape.ranks + destination
        at = self.shape.pair_data_at + (pair * 2 + turn) * self.shape.pair_bytes
        return self._data[at : at + self.shape.pair_bytes]

    def leave(self) -> None:
        """This rank makes no further step. Others that need one are told so."""
        self.counters[self.rank * WORDS + LEFT] = 1

    def has_left(self, rank: int) -> bool:
        return bool(self.counters[rank * WORDS + LEFT])

    def end(self, text: str) -> str:
        """End the group for all of the node, with a reason. The first one stays; returns that."""
        if not self._end[0]:
            data = text.encode()[:_TEXT_MOST]
            self._head[_TEXT_AT : _TEXT_AT + len(data)] = data
            fence()
            self._end[0] = len(data) + 1
        return self.ended() or text

    def ended(self) -> str | None:
        """The reason for which the group has ended; None as long as it has not."""
        length = self._end[0]
        return bytes(self._head[_TEXT_AT : _TEXT_AT + length - 1]).decode(errors="replace") if length else None
