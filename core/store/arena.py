"""The arena as each process sees it: one anonymous memory file per node, mapped by everyone, opened by nobody.

It has no name, so there is nothing to sweep and nothing that another user could open; its descriptor travels over
the raylet's socket. Mappings are made when first needed. The first pages hold one slot per worker in which it
publishes the (task, attempt) that it runs.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import struct
import threading
import weakref
from collections.abc import Callable
from typing import Any

from hpc.core.ids import ID_BYTES
from hpc.core.store.backed_pages import BackedPages

SLOT_BYTES = 128
MAX_SLOTS = 4096
SLOTS_BYTES = SLOT_BYTES * MAX_SLOTS
_SLOT = struct.Struct(f"<{ID_BYTES}sIBd")
#: Behind it the name in which the worker writes, with its length in front.
_NAME_AT = _SLOT.size
NAME_BYTES = SLOT_BYTES - _NAME_AT - 1
_POPULATE_READ = 22
_POPULATE_WRITE = 23
_MAP_FAILED = ctypes.c_void_p(-1).value
#: Fewer bytes than these are written as they are: a fault or two cost no more than the call.
POPULATE_FROM_BYTES = 32 << 10


def create_arena(size_bytes: int) -> int:
    """A new memory file of this size, with only the slots backed by memory yet. Returns its descriptor."""
    fd = os.memfd_create("hpc-arena", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size_bytes)
        os.posix_fallocate(fd, 0, SLOTS_BYTES)
    except BaseException:
        os.close(fd)
        raise
    return fd


@functools.cache
def _madvise() -> Any:
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return madvise


@functools.cache
def _mmap() -> Any:
    call = ctypes.CDLL(None).mmap
    call.restype = ctypes.c_void_p
    call.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64
    ]  # fmt: skip
    return call


@functools.cache
def _munmap() -> Any:
    call = ctypes.CDLL(None).munmap
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return call


class Arena:
    """A process's view of the memory file. Views live on after `close`: each holds its mapping."""

    def __init__(
        self, fd: int, size_bytes: int, slot: int = -1, overflow_fd: int = -1, overflow_bytes: int = 0,
        gives_back: bool = False,
    ) -> None:  # fmt: skip
        self.fd = fd
        self.size_bytes = size_bytes
        #: What lies beyond is in a file on disk.
        self.overflow_fd = overflow_fd
        self.overflow_bytes = overflow_bytes
        self._overflow = Arena(overflow_fd, overflow_bytes, gives_back=True) if overflow_fd >= 0 else None
        #: Its pages may be taken away again: that they existed once says nothing.
        self._gives_back = gives_back
        self._backed = BackedPages()
        self._lock = threading.Lock()
        self._reader: memoryview | None = None
        self._writer: memoryview | None = None
        self._written_at = 0
        self._slots: mmap.mmap | None = None
        self._slot_at = slot * SLOT_BYTES

    def _map(self, protection: int) -> memoryview:
        return memoryview(mmap.mmap(self.fd, self.size_bytes, mmap.MAP_SHARED, protection))

    def writable(self, offset: int, size: int) -> memoryview:
        """Granted space to write into. Its pages exist afterwards: raises OSError (ENOSPC, ENOMEM), never SIGBUS."""
        if offset >= self.size_bytes and self._overflow is not None:
            return self._overflow.writable(offset - self.size_bytes, size)
        is_new = self._back(offset, size)
        if self._writer is None:
            self._map_writable()
        assert self._writer is not None
        if is_new and size >= POPULATE_FROM_BYTES and not self._gives_back:
            self._populate(offset, size)
        return self._writer[offset : offset + size]

    def _map_writable(self) -> None:
        writer = self._map(mmap.PROT_READ | mmap.PROT_WRITE)
        self._written_at = ctypes.addressof(ctypes.c_char.from_buffer(writer))
        self._writer = writer

    def _back(self, offset: int, size: int) -> bool:
        """Have these bytes backed by memory; whether that is new to this process. Raises OSError."""
        with self._lock:
            if self._backed.covers(offset, size):
                return False
        os.posix_fallocate(self.fd, offset, size)
        if not self._gives_back:
            with self._lock:
                self._backed.add(offset, size)
        return True

    def _populate(self, offset: int, size: int) -> bool:
        """Have the pages of these bytes, which are backed, in this process's page table. All at once cost half
        of what a fault for each does. False where the kernel cannot (before Linux 5.14)."""
        at = self._written_at + offset
        start = at // mmap.PAGESIZE * mmap.PAGESIZE
        return bool(_madvise()(start, at + size - start, _POPULATE_WRITE) == 0)

    def readable(self, offset: int, size: int) -> memoryview:
        """An object's bytes, read-only."""
        if offset >= self.size_bytes and self._overflow is not None:
            return self._overflow.readable(offset - self.size_bytes, size)
        if self._reader is None:
            self._reader = self._map(mmap.PROT_READ)
        return self._reader[offset : offset + size]

    def private(self, array: Any, all_at_once: bool = False) -> Any:
        """The same bytes as a writable array: pages are shared until they are written to, and copied then.

        ``array`` is of bytes, made of a view of this arena. None if it does not lie here, or the kernel has no room
        for one mapping more. ``all_at_once``: its pages are in this process's page table afterwards, so that there
        are no faults later."""
        import numpy as np

        if self._reader is None or not array.nbytes:
            return self._overflow.private(array, all_at_once) if self._overflow is not None else None
        at = array.ctypes.data - np.frombuffer(self._reader, np.uint8).ctypes.data
        if not 0 <= at <= self.size_bytes - array.nbytes:
            return self._overflow.private(array, all_at_once) if self._overflow is not None else None
        start = at // mmap.PAGESIZE * mmap.PAGESIZE
        skipped, nbytes = at - start, at - start + array.nbytes
        whole = _private_pages(self.fd, start, nbytes, array)
        if all_at_once and whole is not None:
            _madvise()(whole.ctypes.data, nbytes, _POPULATE_READ)  # faults do it where the kernel cannot: before 5.14
        return None if whole is None else whole[skipped:]

    def close(self) -> None:
        """No further reading or writing: the memory goes with the last view of it, not with this process."""
        fd, self.fd = self.fd, -1
        self._reader = self._writer = self._slots = None
        if fd >= 0:
            os.close(fd)
        if self._overflow is not None:
            self._overflow.close()
            self._overflow, self.overflow_fd = None, -1

    # -------------------------------------------------------------- slots

    def publish(self, task: bytes, attempt: int, running: bool, since: float = 0.0, retriable: bool = True) -> None:
        """Say in this worker's slot what it runs, since when (monotonic), and whether it would be tried again. The
        raylet reads it if the worker dies or has to be ended."""
        if self._slots is None:
            self._slots = mmap.mmap(self.fd, SLOTS_BYTES)
        _SLOT.pack_into(self._slots, self._slot_at, task, attempt, running + (running and retriable), since)

    def publish_name(self, name: bytes) -> None:
        """Say in this worker's slot in whose name it writes: at most `NAME_BYTES`."""
        if self._slots is None:
            self._slots = mmap.mmap(self.fd, SLOTS_BYTES)
        at = self._slot_at + _NAME_AT
        self._slots[at] = len(name)
        self._slots[at + 1 : at + 1 + len(name)] = name

    def published_name(self, slot: int) -> bytes:
        """The name that the worker of the slot has published last; a piece of it if that happens just now."""
        if self._slots is None:
            self._slots = mmap.mmap(self.fd, SLOTS_BYTES)
        at = slot * SLOT_BYTES + _NAME_AT
        return self._slots[at + 1 : at + 1 + min(self._slots[at], NAME_BYTES)]

    def published(self, slot: int) -> tuple[bytes, int]:
        """What the worker of the slot said that it runs: (task, attempt), or (b"", 0)."""
        if self._slots is None:
            self._slots = mmap.mmap(self.fd, SLOTS_BYTES)
        task, attempt, running, _ = _SLOT.unpack_from(self._slots, slot * SLOT_BYTES)
        return (task, attempt) if running else (b"", 0)

    def running_since(self, slot: int) -> tuple[float, bool]:
        """Since when the worker of the slot has run its task, and whether that would be tried again; (0, False) if it
        runs none."""
        if self._slots is None:
            self._slots = mmap.mmap(self.fd, SLOTS_BYTES)
        _, _, running, since = _SLOT.unpack_from(self._slots, slot * SLOT_BYTES)
        return (since, running > 1) if running else (0.0, False)

    def clear_slot(self, slot: int) -> None:
        """Make a slot ready for a new worker."""
        if self._slots is None:
            self._slots = mmap.mmap(self.fd, SLOTS_BYTES)
        _SLOT.pack_into(self._slots, slot * SLOT_BYTES, b"", 0, False, 0.0)
        self._slots[slot * SLOT_BYTES + _NAME_AT] = 0

    def prefault(self, offset: int, size: int) -> bool:
        """Have these pages backed and zeroed before anybody needs them; what is in them stays. False where the kernel
        cannot (before Linux 5.14) or there is no memory."""
        try:
            self._back(offset, size)
        except OSError:
            return False
        if self._writer is None:
            self._map_writable()
        return self._populate(offset, size)


def _private_pages(fd: int, start: int, nbytes: int, kept: Any) -> Any:
    """A private mapping of a part of a memory file, as a writable array that keeps ``kept``. None if there is none.

    Python's own mmap has a descriptor of its own for each mapping: a program that keeps a thousand batches has no more.
    """
    import numpy as np

    at = _mmap()(None, nbytes, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, fd, start)
    if at in (None, _MAP_FAILED):
        return None
    pages: Any = (ctypes.c_ubyte * nbytes).from_address(at)
    whole = np.frombuffer(pages, np.uint8)
    # The view, and with it the pin, lives as long as the mapping.
    weakref.finalize(whole, _unmap, at, nbytes, kept).atexit = False
    return whole


def _unmap(at: int, nbytes: int, kept: Any) -> None:
    del kept
    _munmap()(at, nbytes)


def copy(to: memoryview, source: memoryview) -> None:
    """Copy bytes; large pieces by numpy, which releases the GIL meanwhile."""
    if len(source) < 1 << 16:
        to[:] = source
        return
    import numpy as np

    np.copyto(np.frombuffer(to, np.uint8), np.frombuffer(source, np.uint8))


def anchored(view: memoryview, released: Callable[..., Any], *args: Any) -> memoryview:
    """The same bytes behind an anchor: ``released(*args)`` is called when the last view made of them is gone.

    The call comes from the garbage collector, in any thread: it must not take locks.
    """
    import numpy as np

    base = np.frombuffer(view, np.uint8)
    weakref.finalize(base, released, *args).atexit = False
    return memoryview(base)  # type: ignore[arg-type]
