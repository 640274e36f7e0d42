"""A checkpoint: a directory with whatever the training function wrote into it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from hpc.runs.files import LocalFiles, files_of, join, local_filesystem, resolve

METADATA_FILE = ".metadata.json"
DOWNLOAD_THREADS = 8
_WHOLE = ".whole"


class Checkpoint:
    """A reference to a directory, on this machine or on a file system of pyarrow's.

    path: a directory, or a URL that pyarrow knows ("s3://bucket/path"). filesystem: a pyarrow.fs.FileSystem, on which
    the path is then. A process that opens it must see the file system that it is on.
    """

    def __init__(self, path: str | os.PathLike[str], filesystem: Any = None) -> None:
        self._filesystem, self.path = resolve(os.fspath(path), filesystem)
        self._key = secrets.token_hex(8)

    @property
    def filesystem(self) -> Any:
        """The pyarrow file system that ``path`` is on. Raises ImportError for a local one where there is no pyarrow."""
        return self._filesystem if self._filesystem is not None else local_filesystem()

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """The checkpoint that this directory is."""
        if "://" in os.fspath(path):
            raise ValueError(f"from_directory takes a directory: a checkpoint of a URL is Checkpoint({path!r})")
        return cls(path)

    def to_directory(self, path: str | os.PathLike[str] | None = None) -> str:
        """Copy the checkpoint's files to ``path``, or to a new temporary directory; returns where they are.

        Raises FileNotFoundError where there is no such checkpoint.
        """
        self._check()
        target = os.path.abspath(os.path.expanduser(path)) if path is not None else None
        target = target or tempfile.mkdtemp(prefix="checkpoint-")
        if self._filesystem is None:
            shutil.copytree(self.path, target, dirs_exist_ok=True)
            return target
        files, local = files_of(self._filesystem), LocalFiles()

        def fetch(one: tuple[str, int]) -> None:
            relative, size = one
            place = os.path.join(target, relative)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with files.open(join(self.path, relative)) as source:
                local.put(source, place, size)

        os.makedirs(target, exist_ok=True)
        with ThreadPoolExecutor(DOWNLOAD_THREADS) as pool:
            list(pool.map(fetch, files.walk(self.path)))
        return target

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        """The checkpoint's files in a directory of this machine: ``with checkpoint.as_directory() as path:``.

        A local checkpoint's own directory. Another one is fetched, once for all processes of the node that open it at
        the same time. It is deleted when the last of them has done with it.
        """
        self._check()
        if self._filesystem is None:
            yield self.path
            return
        place = os.path.join(tempfile.gettempdir(), f"hpc-checkpoint-{os.getuid()}-{self._key}")
        lock = self._hold(place)
        try:
            yield place
        finally:
            _let_go(lock, place)

    def _hold(self, place: str) -> int:
        """Have the files there, and a shared lock on them, so that nobody deletes them."""
        while True:
            lock = os.open(f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_SH)
                if _same_file(lock, f"{place}.lock") and os.path.exists(f"{place}{_WHOLE}"):
                    held, lock = lock, -1
                    return held
                fcntl.flock(lock, fcntl.LOCK_EX)  # for a moment without a lock: what is there is looked at again
                if not _same_file(lock, f"{place}.lock"):
                    continue
                if not os.path.exists(f"{place}{_WHOLE}"):
                    shutil.rmtree(place, ignore_errors=True)
                    os.mkdir(place, 0o700)
                    self.to_directory(place)
                    os.close(os.open(f"{place}{_WHOLE}", os.O_WRONLY | os.O_CREAT, 0o600))
            finally:
                if lock >= 0:
                    os.close(lock)

    def get_metadata(self) -> dict[str, Any]:
        """What set_metadata and update_metadata have stored with it."""
        try:
            text = files_of(self._filesystem).read(join(self.path, METADATA_FILE))
        except FileNotFoundError:
            return {}
        data: dict[str, Any] = json.loads(text)
        return data

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Store these values with it, instead of those there are."""
        files_of(self._filesystem).write(join(self.path, METADATA_FILE), json.dumps(dict(metadata)).encode())

    def update_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Add these values to those stored with it."""
        self.set_metadata({**self.get_metadata(), **metadata})

    def _check(self) -> None:
        if not files_of(self._filesystem).is_dir(self.path):
            raise FileNotFoundError(f"there is no checkpoint {self.path}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and other.path == self.path and other._filesystem == self._filesystem

    def __hash__(self) -> int:
        return hash(self.path)

    def __fspath__(self) -> str:
        raise TypeError("a Checkpoint is no path: its files are in `with checkpoint.as_directory() as path:`")

    def __repr__(self) -> str:
        where = f", filesystem={self._filesystem.type_name}" if self._filesystem is not None else ""
        return f"Checkpoint({self.path!r}{where})"


def named(path: str, filesystem: Any, key: str) -> Checkpoint:
    """A run's checkpoint, as each of the run's processes makes it. The key is the same in all of them: see
    `Checkpoint.as_directory`."""
    found = Checkpoint(path, filesystem)
    found._key = f"{key}-{_label(path)}"
    return found


def _label(path: str) -> str:
    """The last part of a path, as a part of a file's name."""
    return "".join(one if one.isalnum() else "_" for one in path.rsplit("/", 1)[-1])


def _same_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _let_go(lock: int, place: str) -> None:
    """Delete the files, unless another process reads them."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        if _same_file(lock, f"{place}.lock"):
            os.unlink(f"{place}{_WHOLE}")
            shutil.rmtree(place, ignore_errors=True)
            os.unlink(f"{place}.lock")
    finally:
        os.close(lock)
