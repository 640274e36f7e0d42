"""A file on the node's disk that processes map beside the arena, for when all memory of the store is pinned.

It has no name, so nothing of it can be left behind, and it is sparse. What an object takes is allocated before anybody
writes there, and given back when the object is freed. So a full disk is an error of the raylet's, never a SIGBUS.
"""

from __future__ import annotations

import ctypes
import errno
import os

from hpc.core.store.arena import Arena
from hpc.core.store.layout import ALIGN

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


def create_overflow(folder: str, size_bytes: int) -> int:
    """A nameless file of this size in a directory; its descriptor. Raises OSError where the file system cannot."""
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
        path = os.path.join(folder, f".overflow-{os.getpid()}")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.unlink(path)
    try:
        os.ftruncate(fd, size_bytes)
        _fallocate(fd, _KEEP_SIZE, 0, ALIGN)
        _fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, 0, ALIGN)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _fallocate(fd: int, mode: int, offset: int, size: int) -> None:
    """fallocate(2), and never its imitation that writes to each page. Raises OSError."""
    while _libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(size)) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


class ArenaWithOverflow(Arena):
    """The raylet's arena, which decides about the file behind it."""

    def descriptors(self) -> list[int]:
        """The descriptors that other processes need."""
        return [self.fd] if self.overflow_fd < 0 else [self.fd, self.overflow_fd]

    def reserve(self, offset: int, size: int) -> str:
        """Have the disk keep room for this part of the file; why it cannot, or an empty string."""
        try:
            _fallocate(self.overflow_fd, _KEEP_SIZE, offset - self.size_bytes, size)
        except OSError as error:
            self.discard(offset, size)
            return error.strerror or repr(error)
        return ""

    def discard(self, offset: int, size: int) -> None:
        """Give this part back to the disk. If it refuses, the bytes go when the session ends."""
        try:
            _fallocate(self.overflow_fd, _KEEP_SIZE | _PUNCH_HOLE, offset - self.size_bytes, size)
        except OSError:
            pass
