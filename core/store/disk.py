"""The disk half of spilling: a few threads that move bytes between the arena and files, so that the raylet never waits
for a disk.

A file is written by sendfile straight from the arena's descriptor and read by preadv straight into its pages; both let
go of the interpreter. Files have mode 0600 in a directory of their own, which is marked as alive by a lock. What a
killed raylet left in a directory that the user named is swept by the next one there. Memory is no place to spill to: a
directory on tmpfs is refused unless the user named it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from hpc.core.node.rundir import remove
from hpc.core.store.arena import Arena

log = logging.getLogger("hpc.raylet")

#: What is done to a file.
Work = Literal["write", "read", "remove"]
THREADS = 2
STEP_BYTES = 4 << 20
#: What statfs says of file systems that live in memory: tmpfs, ramfs, hugetlbfs.
IN_MEMORY = {0x01021994, 0x858458F6, 0x958458F6}
#: Of the file system's free bytes, the part that is used where the user gave no limit.
SHARE_OF_FREE = 0.9


class SpillFolder(Struct, frozen=True):
    """Where files go and how many bytes of them there may be; 0 bytes: nowhere, and ``why``."""

    folder: str
    limit_bytes: int
    why: str = ""


def is_in_memory(path: str) -> bool:
    """Whether the file system at ``path`` is memory. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(256)
    if libc.statfs(os.fsencode(path), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF in IN_MEMORY


def choose_folder(node_dir: str, wanted: str, limit_bytes: int | None) -> SpillFolder:
    """The folder for this node's files: in the directory that the user named, else in the node's own. A limit of 0
    bytes turns spilling off; None is most of what is free."""
    if limit_bytes == 0:
        return SpillFolder("", 0, "spilling was turned off (HPC_SPILL_LIMIT_BYTES=0)")
    base = wanted or node_dir
    name = f"{os.path.basename(node_dir)}-spill" if wanted else "spill"
    folder = os.path.join(base, name)
    try:
        if not wanted and is_in_memory(base):
            return SpillFolder("", 0, f"{base} is in memory (tmpfs); name a directory on a disk with HPC_SPILL_DIR")
        if wanted:
            _sweep(base)
        if not os.access(base, os.W_OK | os.X_OK):
            return SpillFolder("", 0, f"{base} is not writable for this user")
        room = os.statvfs(base)
    except OSError as error:
        return SpillFolder("", 0, f"{base} cannot be used: {error.strerror}")
    free = int(room.f_bavail * room.f_frsize * SHARE_OF_FREE)
    return SpillFolder(folder, free if limit_bytes is None else limit_bytes)


def _sweep(base: str) -> None:
    """Remove what raylets of ours that are dead have left in a directory that the user named."""
    prefix = f"hpc-{os.getuid()}-"
    for entry in os.scandir(base):
        if not (
            entry.name.startswith(prefix) and entry.name.endswith("-spill") and entry.is_dir(follow_symlinks=False)
        ):
            continue
        if entry.stat(follow_symlinks=False).st_uid != os.getuid():
            continue
        try:
            fd = os.open(os.path.join(entry.path, "lock"), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(entry.path)
            log.info("removed %s, left by a session that has ended", entry.path)
        except OSError:
            pass
        finally:
            os.close(fd)


class Disk:
    """The threads. ``submit`` hands them work; `fileno` is readable when `finished` has something."""

    def __init__(self, place: SpillFolder, arena: Arena) -> None:
        self.folder = place.folder
        self._arena = arena
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._todo: deque[tuple[object, Work, int, Sequence[tuple[int, int, int]]]] = deque()
        self._ready = threading.Semaphore(0)
        self._done: deque[tuple[object, str]] = deque()
        self._threads: list[threading.Thread] = []
        self._lock = -1
        self._closed = False

    def fileno(self) -> int:
        """A descriptor that is readable when something has ended."""
        return self._fd

    def submit(self, job: object, kind: Work, file: int, parts: Sequence[tuple[int, int, int]]) -> None:
        """Have ``kind`` done to a file; ``job`` comes back from `finished`."""
        if not self._threads:
            self._start()
        self._todo.append((job, kind, file, parts))
        self._ready.release()

    def _start(self) -> None:
        """On first use: most sessions never spill."""
        try:
            os.mkdir(self.folder, 0o700)
            self._lock = os.open(
                os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            log.error("the spill directory %s cannot be made: %s", self.folder, error)
        for number in range(THREADS):
            thread = threading.Thread(target=self._work, name=f"hpc-disk-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def finished(self) -> list[tuple[object, str]]:
        """(job, error) of all that has ended since the last time; the error is empty where there was none."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass
        done = []
        while self._done:
            done.append(self._done.popleft())
        return done

    def _work(self) -> None:
        while True:
            self._ready.acquire()
            if self._closed:
                return
            job, kind, file, parts = self._todo.popleft()
            error = ""
            try:
                self._do(kind, os.path.join(self.folder, str(file)), parts)
            except Exception as failure:
                error = getattr(failure, "strerror", None) or repr(failure)
                log.error("could not %s the spill file %s/%d: %s", kind, self.folder, file, error)
                if kind == "write":
                    _unlink(os.path.join(self.folder, str(file)))
            self._done.append((job, error))
            with contextlib.suppress(OSError):
                os.eventfd_write(self._fd, 1)

    def _do(self, kind: Work, path: str, parts: Sequence[tuple[int, int, int]]) -> None:
        if kind == "remove":
            _unlink(path)
            return
        if kind == "write":
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        else:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            for at, offset, size in parts:
                if kind == "write":
                    self._write(fd, offset, size)
                else:
                    self._read(fd, at, offset, size)
        finally:
            os.close(fd)

    def _write(self, fd: int, offset: int, size: int) -> None:
        while size and not self._closed:
            sent = os.sendfile(fd, self._arena.fd, offset, min(size, STEP_BYTES))
            if not sent:
                raise OSError(5, "the arena ended early")
            offset += sent
            size -= sent

    def _read(self, fd: int, at: int, offset: int, size: int) -> None:
        target = self._arena.writable(offset, size)
        while len(target) and not self._closed:
            got = os.preadv(fd, [target[:STEP_BYTES]], at)
            if not got:
                raise OSError(5, "the spill file is shorter than it was")
            at += got
            target = target[got:]

    def close(self) -> None:
        """Stop the threads and remove all files."""
        self._closed = True
        for _ in self._threads:
            self._ready.release()
        for thread in self._threads:
            thread.join(timeout=2.0)
        if self.folder:
            remove(self.folder)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
