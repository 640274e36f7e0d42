"""Standard output and error of the processes of a node: text streams over log files that never end a program.

A log file lies on a disk that may be full, or above a limit of the process (ulimit -f). A print that fails ends a
program that computes well, so what cannot be kept is dropped. How much is said in the file as soon as it takes
something again.
"""

from __future__ import annotations

import errno
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: What a file says that takes no more: disk full, quota, limit of the process or of the file system, broken disk.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE})


class LogFile(io.FileIO):
    """A descriptor whose writes do not fail where there is no room."""

    dropped = 0
    why = ""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write; what there is no room for is counted and dropped."""
        try:
            if self.dropped:
                self._say()
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in FULL:
                raise
            size = memoryview(data).nbytes
            self.dropped += size
            self.why = error.strerror or str(error)
            return size

    def _say(self) -> None:
        text = f"\nhpc: {self.dropped} bytes of output could not be kept here and were dropped: {self.why}\n".encode()
        if super().write(text) == len(text):
            self.dropped = 0


def text_stream(fd: int) -> io.TextIOWrapper:
    """A stream for people over a descriptor: each line is written at once, what is no text is written escaped."""
    buffered = io.BufferedWriter(LogFile(fd, "w", closefd=False))
    return io.TextIOWrapper(buffered, encoding="utf-8", errors="backslashreplace", line_buffering=True)
