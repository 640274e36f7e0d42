"""Standard output and error of the processes of a node: text streams over log files that never end a program.

A log file lies on a disk that may be full, or above a limit of the process (ulimit -f). A print that fails ends a
program that computes well, so what cannot be kept is dropped. How much is said in the file as soon as it takes
something again.

A worker says here in whose name it writes (`write_as`), and the files get the marks that tell it (see `marks`).
"""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING

from hpc.core.node.marks import mark

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: What a file says that takes no more: disk full, quota, limit of the process or of the file system, broken disk.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE})
#: A mark is repeated after so many bytes: whoever reads may have missed the last.
REPEAT_BYTES = 64 << 10
_NOBODY = mark("")


class LogFile(io.FileIO):
    """A descriptor whose writes do not fail where there is no room, and say in whose name they are."""

    dropped = 0
    why = ""
    #: The mark that the file had last, empty at first, and the bytes that were written since.
    marked = b""
    since = 0
    #: The device and inode of the log file: names are for it alone. User code may put another file, or a pipe, behind
    #: the descriptor for a while, in which there must be nothing but what it has written.
    home: tuple[int, int] | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write; what there is no room for is counted and dropped."""
        try:
            if self.dropped:
                self._say()
            if _names.mark and (_names.mark != self.marked or self.since > REPEAT_BYTES) and self._is_home():
                return self._write_marked(_names.mark, data)
            written = super().write(data) or 0
            self.since += written
            return written
        except OSError as error:
            if error.errno not in FULL:
                raise
            size = memoryview(data).nbytes
            self.dropped += size
            self.why = error.strerror or str(error)
            return size

    def _write_marked(self, new: bytes, data: ReadableBuffer) -> int:
        """Write a mark and the data at once; returns how much of the data was written."""
        written = (super().write(new + bytes(data)) or 0) - len(new)
        if written < 0:  # no room for the mark: what follows it is lost as well, and that will be said
            raise OSError(errno.ENOSPC, "No space left on device")
        self.marked, self.since = new, written
        return written

    def end_name(self) -> None:
        """What follows is nobody's until a name is written again: C code and children write without one."""
        if self.marked not in (b"", _NOBODY) and self._is_home():
            try:
                self._write_marked(_NOBODY, b"")
            except OSError:
                self.marked = b""

    def come_home(self) -> None:
        """What is behind the descriptor now is the log file."""
        self.home = self._behind()

    def _is_home(self) -> bool:
        return self.home is not None and self.home == self._behind()

    def _behind(self) -> tuple[int, int] | None:
        try:
            info = os.fstat(self.fileno())
        except OSError:
            return None
        return info.st_dev, info.st_ino

    def _say(self) -> None:
        text = f"\nhpc: {self.dropped} bytes of output could not be kept here and were dropped: {self.why}\n".encode()
        if super().write(text) == len(text):
            self.dropped = 0


class _Names:
    """In whose name this process writes: one for both of its streams."""

    name = ""
    mark = b""
    streams: list[io.TextIOWrapper]
    files: list[LogFile]


_names = _Names()
_names.streams, _names.files = [], []


def text_stream(file: LogFile) -> io.TextIOWrapper:
    """A stream for people over a file: each line is written at once, what is no text is written escaped."""
    return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def standard_streams() -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    """Streams over descriptors 1 and 2 that write in the name that `write_as` gives, once `begin_logs` was called."""
    _names.files = [LogFile(fd, "w", closefd=False) for fd in (1, 2)]
    _names.streams = [text_stream(file) for file in _names.files]
    return _names.streams[0], _names.streams[1]


def begin_logs() -> None:
    """Descriptors 1 and 2 are this process's log files from now on, and nothing was written to them."""
    for file in _names.files:
        file.come_home()
        file.marked = b""


def write_as(name: str) -> bool:
    """From now on this process writes in this name; False if it does so already. What was printed before and is not
    written yet has the old one."""
    if name == _names.name:
        return False
    new = mark(name)
    for stream in _names.streams:
        try:
            stream.flush()
        except Exception:  # another thread may be in the middle of a write
            continue
    _names.name, _names.mark = name, new
    for file in _names.files:
        if file.marked != new:
            file.end_name()
    return True


def name_again() -> None:
    """Others read what is written from now on: they have seen no name yet."""
    for file in _names.files:
        file.marked = b""
