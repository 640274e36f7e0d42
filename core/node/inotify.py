"""Which files of a folder have changed, without looking at each: Linux's inotify, which the standard library lacks."""

from __future__ import annotations

import ctypes
import os
import struct

_EVENT = struct.Struct("iIII")
_IN_MODIFY = 0x002
_IN_Q_OVERFLOW = 0x4000
_READ_BYTES = 1 << 16


class Watch:
    """Collects the names of files in ``folder`` that are written to. Raises OSError where that is not possible."""

    def __init__(self, folder: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        if libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_MODIFY) < 0:
            code = ctypes.get_errno()
            self.close()
            raise OSError(code, "inotify_add_watch", folder)

    def changed(self) -> set[str] | None:
        """The names since the last time; None when so much has changed that every file must be looked at."""
        names: set[str] = set()
        lost = False
        while True:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return None if lost else names
            at = 0
            while at < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                lost |= bool(mask & _IN_Q_OVERFLOW)
                names.add(os.fsdecode(data[at : at + length].rstrip(b"\0")))
                at += length

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)
