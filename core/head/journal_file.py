"""The journal's file: append before anything is said, cut a torn tail, write it anew when it has grown.

In the node's directory, readable by its user alone: no shared file system is needed. It is there for a head that is
killed. What was written is the kernel's then, so nothing is synced to the disk: that took most of the head's time. A
node that loses its power takes the session with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from hpc.core.head.journal import MAGIC, AnyOp, JournalDamaged, decode, encode

NAME = "head.journal"
#: A journal that has grown by this much, and to twice its size after the last rewriting, is written anew.
COMPACT_BYTES = 4 << 20


class JournalFile:
    """An open journal. Raises OSError where the disk does not take it, JournalDamaged where it cannot be read."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, NAME)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size_bytes = 0
        self.compact_at = COMPACT_BYTES

    def read(self) -> list[AnyOp]:
        """All that was written; a torn tail is cut off."""
        with open(self.path, "rb") as file:
            data = file.read()
        try:
            ops, good = decode(data)
        except JournalDamaged as error:
            raise JournalDamaged(f"the head's journal {self.path} is damaged: {error}") from None
        if good < len(data):
            os.ftruncate(self._fd, good)
        if not good:
            os.write(self._fd, MAGIC)
            good = len(MAGIC)
        self.size_bytes = good
        self.compact_at = 2 * good + COMPACT_BYTES
        return ops

    def append(self, ops: Sequence[AnyOp]) -> None:
        """Write operations down."""
        self._write(self._fd, b"".join([encode(op) for op in ops]))

    def _write(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        self.size_bytes += len(data)

    @property
    def has_grown(self) -> bool:
        """Whether it is time for `compact`."""
        return self.size_bytes > self.compact_at

    def compact(self, ops: Iterable[AnyOp]) -> None:
        """Put a short journal in the place of the long one; whenever this is interrupted, one of them is there."""
        new = self.path + ".new"
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.size_bytes = 0
            self._write(fd, MAGIC)
            for op in ops:
                self._write(fd, encode(op))
            os.rename(new, self.path)
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd = fd
        self.compact_at = 2 * self.size_bytes + COMPACT_BYTES

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
