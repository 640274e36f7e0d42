"""In a rank: bring a checkpoint's files to the run's directory, whole and flushed, and say what they are."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hpc.runs.checkpoint import Checkpoint
from hpc.runs.files import Files, LocalFiles, files_of, join, sync_directory
from hpc.runs.manifest import THREADS, Entry, entries_of, entry

MARKER_FILE = ".run"
#: Directories of a run that begin so are of use only while it goes on.
STAGING_PREFIX = ".staging-"
CHANGED = "a file has changed while it was stored (give each report a directory of its own)"
#: A file that another node has just made may not be seen at once on a network file system.
MARKER_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Place:
    """Where the run's directory is, as a worker must know it. ``filesystem``: of pyarrow's, or None for local ones."""

    storage_path: str
    experiment_dir_name: str
    token: str
    filesystem: Any = None

    @property
    def experiment_fs_path(self) -> str:
        """The run's directory."""
        return join(self.storage_path, self.experiment_dir_name)

    @property
    def storage_fs_path(self) -> str:
        """The directory that the run's directory is in."""
        return self.storage_path

    @property
    def storage_filesystem(self) -> Any:
        """The pyarrow file system that the run's directory is on."""
        return Checkpoint(self.storage_path, self.filesystem).filesystem

    def __str__(self) -> str:
        return self.experiment_fs_path


class StorageError(OSError):
    """A checkpoint cannot be stored: the text says which, where, and why. Earlier checkpoints are as they were."""


def upload(checkpoint: Checkpoint, place: Place, target: str, take: bool) -> list[Entry]:
    """Copy a checkpoint's files into a directory of the run, to where those of the other ranks go.

    Files appear whole: two ranks that write the same name do not mix their bytes. With ``take`` files of the same file
    system are moved, and others deleted when all are stored. Raises StorageError when that fails, and FileNotFoundError
    where the checkpoint is no directory.
    """
    source = checkpoint.path
    remote = checkpoint._filesystem is not None
    if not files_of(checkpoint._filesystem).is_dir(source):
        raise FileNotFoundError(f"the reported checkpoint is no directory: {source}")
    check_shared(place)
    files = files_of(place.filesystem)
    if not take and not remote and files.local and os.path.realpath(source) == os.path.realpath(target):
        return entries_of(files, target)
    try:
        found = _copy(checkpoint, files, target, take and not remote)
    except OSError as error:
        raise StorageError(
            error.errno, f"the checkpoint {source} cannot be stored in {place}: {_why(error)}"
        ) from error
    if take:
        files_of(checkpoint._filesystem).delete_tree(source)
    return found


def _copy(checkpoint: Checkpoint, files: Files, target: str, take: bool) -> list[Entry]:
    inner, source = files_of(checkpoint._filesystem), checkpoint.path
    found = list(inner.walk(source))
    folders = {os.path.dirname(relative) for relative, _ in found} | _empty_folders(inner, source)
    for folder in sorted(folders | {""}):
        files.make_dirs(join(target, folder) if folder else target)

    def bring(one: tuple[str, int]) -> Entry:
        relative, size = one
        path, goal = join(source, relative), join(target, relative)
        made = entry(inner, path, relative, size)
        if take and isinstance(files, LocalFiles) and files.take(path, goal):
            return made
        with inner.open(path) as file:
            files.put(file, goal, size)
        # What is stored must be what its sum is of, or it would be found damaged when it is needed.
        if entry(inner, path, relative, size) != made:
            raise OSError(errno.EBUSY, CHANGED, path)
        return made

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(bring, sorted(found)))


def _why(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror


def _empty_folders(files: Files, source: str) -> set[str]:
    """Directories without a file in them: local ones only, since object stores have none."""
    if not files.local:
        return set()
    return {
        os.path.relpath(folder, source) for folder, below, inside in os.walk(source) if not below and not inside
    } - {"."}


def check_shared(place: Place) -> None:
    """Raises StorageError where this node does not see the run's directory."""
    deadline = time.monotonic() + MARKER_PATIENCE_S
    while why := why_not_own(place):
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    if not why:
        return
    raise StorageError(
        f"checkpoints go to {place}, but {why}: set RunConfig(storage_path=...) to a directory on a shared file "
        "system, and give each run a name of its own"
    )


def why_not_own(place: Place) -> str:
    """Why the run's directory, as this node sees it, is not this run's; "" if it is."""
    files = files_of(place.filesystem)
    try:
        token = files.read(join(place.experiment_fs_path, MARKER_FILE)).decode(errors="replace")
    except FileNotFoundError:
        if files.is_dir(place.experiment_fs_path):
            return (
                "it is not the same directory on this node as on the driver's, or another run with this name and "
                "storage_path has begun and ended there"
            )
        return "there is no such directory on this node: it was removed, or is not on a shared file system"
    except OSError as error:
        return f"it cannot be read: {error}"
    if token != place.token:
        return "another run with this name and storage_path has begun, here or on the driver's node"
    return ""


def private_directory(place: Place) -> str:
    """A new directory for this rank's files, in the run's own where that is a local one: from there they are moved."""
    if place.filesystem is not None:
        import tempfile

        return tempfile.mkdtemp(prefix="checkpoint-")
    check_shared(place)
    path = join(place.experiment_fs_path, f"{STAGING_PREFIX}own-{secrets.token_hex(6)}")
    os.mkdir(path)
    return path


def flush_tree(path: str) -> None:
    """Flush what this node has written of a local directory to disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(folder)
    sync_directory(os.path.dirname(path))


def merge(files: Files, target: str, by_rank: Sequence[Sequence[Entry]]) -> list[Entry]:
    """The entries of all ranks. What two ranks have written, with different content, is looked at again."""
    found: dict[str, Entry] = {}
    doubtful = set()
    for one in (one for entries in by_rank for one in entries):
        if found.setdefault(one.path, one) != one:
            doubtful.add(one.path)
    if doubtful:
        sizes = dict(files.walk(target))
        for path in doubtful:
            found[path] = entry(files, join(target, path), path, sizes[path])
    return [found[path] for path in sorted(found)]


def remove(path: str) -> None:
    """Delete a local directory that was of use to this rank alone."""
    shutil.rmtree(path, ignore_errors=True)
