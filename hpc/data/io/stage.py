"""Copies of files on the node that reads them: each file is fetched from the shared file system once for each node.

    the folder of the session on this node / staged / <name>          the copy, whole
                                                   / <name>.lock      held by the process that copies
                                                   / used             the bytes of all copies

A copy is of one version of a file: after a change of its size or time it is copied again.
The first process that wants a file copies it under a lock; the others wait for it. A process that dies leaves its lock
free, and the next one copies anew. The folder goes with the session. What does not fit under the limit is read where it
is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

FOLDER = "staged"
COPIED = 8 << 20


@dataclass(frozen=True)
class NodeStage:
    """Files are copied to each node that reads them, up to ``limit_bytes`` there.

    The limit is half of what is free on the node's disk at first, if it is None. ``folder``: where the copies are;
    None: in the session's folder on the node, with which they are removed.
    """

    limit_bytes: int | None = None
    folder: str | None = None

    def local(self, path: str, filesystem: Any = None) -> str | None:
        """The path of this node's copy, made if there is none; the path itself (or None) if it does not fit."""
        folder = self.folder or own_folder()
        extension = "".join(os.path.splitext(path)[1:])
        *_, size, _ = identity = version(path, filesystem)
        name = hashlib.blake2b(repr(identity).encode(), digest_size=16).hexdigest() + extension
        copy = os.path.join(folder, name)
        if os.path.exists(copy):
            return copy
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with locked(f"{copy}.lock"):
            if os.path.exists(copy):
                return copy
            if not self.reserve(folder, size):
                return path if filesystem is None else None
            part = f"{copy}.part"  # Of a dead process at most: this one has the lock.
            try:
                fetch(path, filesystem, part)
                os.rename(part, copy)
            except BaseException:
                self.reserve(folder, -size)
                if os.path.exists(part):
                    os.unlink(part)
                raise
        return copy

    def reserve(self, folder: str, size: int) -> bool:
        """Count the bytes of a copy. False: they would be beyond the limit."""
        path = os.path.join(folder, "used")
        with locked(f"{path}.lock"):
            try:
                with open(path) as file:
                    used, limit = map(int, file.read().split())
            except FileNotFoundError:
                used, limit = 0, shutil.disk_usage(folder).free // 2
            most = limit if self.limit_bytes is None else self.limit_bytes
            if used + size > most:
                return False
            with open(f"{path}.new", "w") as file:
                file.write(f"{used + size} {limit}")
            os.rename(f"{path}.new", path)
        return True


def version(path: str, filesystem: Any = None) -> tuple[str, str, int, int | None]:
    """What a copy is of: the file system, the path, and its size and time of change now."""
    if filesystem is None:
        found = os.stat(path)
        return "", path, found.st_size, found.st_mtime_ns
    info = filesystem.get_file_info(path)
    return filesystem.type_name, path, info.size, info.mtime_ns


def of(stage: Any) -> NodeStage | None:
    """What a user says as ``stage``. Raises ValueError for anything but None, "node" or a NodeStage."""
    if stage is None or isinstance(stage, NodeStage):
        return stage
    if stage == "node":
        return NodeStage()
    raise ValueError(f"stage is None, 'node' or a NodeStage(limit_bytes), and not {stage!r}")


def own_folder() -> str:
    """The folder of the session on this node, with a place for copies."""
    import hpc

    return os.path.join(hpc.get_runtime_context().get_temp_dir(), FOLDER)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock of a file; it ends with the process, too."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def fetch(path: str, filesystem: Any, target: str) -> None:
    if filesystem is None:
        shutil.copyfile(path, target)
        return
    with filesystem.open_input_stream(path, compression=None) as source, open(target, "wb") as file:
        while data := source.read(COPIED):
            file.write(data)
