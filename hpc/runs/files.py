"""The files of a run: on a file system of this machine, where all is flushed to disk, or on one that pyarrow knows.

Both kinds have the same methods. A file appears whole and replaces an older one in one step. On a local (or mounted,
shared) file system a method returns when what it did is on disk: files and directories are flushed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from typing import IO, Any, Protocol

CHUNK_BYTES = 4 * 1024 * 1024
#: Object stores: what is written appears at once and whole, and there is nothing that could be renamed.
OBJECT_STORES = ("s3", "gcs", "abfs")
NO_ARROW = "file systems other than this machine's need pyarrow: pip install 'hpc[arrow]'"


class Files(Protocol):
    """What a run needs of a file system. Paths are absolute, or those of the pyarrow file system."""

    local: bool

    def make_dirs(self, path: str) -> None:
        """Make a directory and those above it."""

    def names(self, path: str) -> list[str]:
        """What is in a directory; nothing where there is none."""

    def is_dir(self, path: str) -> bool:
        """Whether there is such a directory."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory of this path."""

    def read(self, path: str) -> bytes:
        """A file's content. Raises FileNotFoundError."""

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file, in one step."""

    def append(self, path: str, data: bytes) -> None:
        """Write at the end of a file; make it where there is none."""

    def open(self, path: str) -> IO[bytes]:
        """A file, to read and to seek in."""

    def put(self, source: IO[bytes], path: str, size: int | None = None) -> None:
        """Copy an open file, or the first so many bytes of it, to this path."""

    def delete(self, path: str) -> None:
        """Delete a file, if there is one."""

    def delete_tree(self, path: str) -> None:
        """Delete a directory with all that is in it, if there is one."""

    def walk(self, path: str) -> Iterator[tuple[str, int]]:
        """All files below a directory: their path from it, and their size in bytes."""


class LocalFiles:
    """The file systems of this machine, shared ones among them."""

    local = True

    def make_dirs(self, path: str) -> None:
        """Make a directory and those above it; what is new is flushed."""
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for one in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another rank may make it at the same time
                os.mkdir(one)
            if not os.path.isdir(one):
                raise NotADirectoryError(errno.ENOTDIR, "is no directory", one)
            sync_directory(os.path.dirname(one))

    def names(self, path: str) -> list[str]:
        """What is in a directory; nothing where there is none."""
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def is_dir(self, path: str) -> bool:
        """Whether there is such a directory."""
        return os.path.isdir(path)

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory of this path."""
        return os.path.lexists(path)

    def read(self, path: str) -> bytes:
        """A file's content. Raises FileNotFoundError."""
        with open(path, "rb") as file:
            return file.read()

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file, in one step."""
        with self._replacing(path) as file:
            file.write(data)

    def append(self, path: str, data: bytes) -> None:
        """Write at the end of a file; make it where there is none."""
        new = not os.path.exists(path)
        with open(path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_directory(os.path.dirname(path))

    def open(self, path: str) -> IO[bytes]:
        """A file, to read and to seek in."""
        return open(path, "rb")

    def put(self, source: IO[bytes], path: str, size: int | None = None) -> None:
        """Copy an open file, or the first so many bytes of it, to this path."""
        with self._replacing(path) as file:
            _copy(source, file, size)

    def take(self, source: str, path: str) -> bool:
        """Move a file here without copying it. False where it is on another file system, or is a link."""
        if os.path.islink(source):
            return False
        descriptor = os.open(source, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.replace(source, path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return False
        sync_directory(os.path.dirname(path))
        return True

    def delete(self, path: str) -> None:
        """Delete a file, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            sync_directory(os.path.dirname(path))

    def delete_tree(self, path: str) -> None:
        """Delete a directory with all that is in it, if there is one."""
        shutil.rmtree(path, ignore_errors=True)

    def rename(self, old: str, new: str) -> None:
        """Give a directory its final name, in one step."""
        os.rename(old, new)
        sync_directory(os.path.dirname(new))

    def walk(self, path: str) -> Iterator[tuple[str, int]]:
        """All files below a directory, through links: their path from it, and their size in bytes."""
        for found in walk_links(path):
            state = os.stat(found)
            if not stat.S_ISREG(state.st_mode):  # to open a pipe would wait for its other end
                raise OSError(errno.EINVAL, "neither a file nor a directory", found)
            yield os.path.relpath(found, path), state.st_size

    @contextlib.contextmanager
    def _replacing(self, path: str) -> Iterator[IO[bytes]]:
        temporary = os.path.join(os.path.dirname(path), f".{secrets.token_hex(6)}.part")
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync_directory(os.path.dirname(path))


class ArrowFiles:
    """A file system of pyarrow's. Whether a power failure can lose what was written is a matter of that one."""

    local = False

    def __init__(self, filesystem: Any) -> None:
        self.filesystem = filesystem

    def make_dirs(self, path: str) -> None:
        """Make a directory and those above it."""
        self.filesystem.create_dir(path, recursive=True)

    def names(self, path: str) -> list[str]:
        """What is in a directory; nothing where there is none."""
        found = self.filesystem.get_file_info(_arrow().FileSelector(path, allow_not_found=True))
        return sorted(info.base_name for info in found)

    def is_dir(self, path: str) -> bool:
        """Whether there is such a directory."""
        return bool(self._kind(path) == _arrow().FileType.Directory)

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory of this path."""
        return bool(self._kind(path) != _arrow().FileType.NotFound)

    def read(self, path: str) -> bytes:
        """A file's content. Raises FileNotFoundError."""
        with self.filesystem.open_input_stream(path) as file:
            data: bytes = file.read()
        return data

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file, in one step."""
        with self._replacing(path) as file:
            file.write(data)

    def append(self, path: str, data: bytes) -> None:
        """Write at the end of a file; make it where there is none. The file is written anew."""
        with contextlib.suppress(FileNotFoundError):
            data = self.read(path) + data
        self.write(path, data)

    def open(self, path: str) -> IO[bytes]:
        """A file, to read and to seek in."""
        file: IO[bytes] = self.filesystem.open_input_file(path)
        return file

    def put(self, source: IO[bytes], path: str, size: int | None = None) -> None:
        """Copy an open file, or the first so many bytes of it, to this path."""
        with self._replacing(path) as file:
            _copy(source, file, size)

    def delete(self, path: str) -> None:
        """Delete a file, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(path)

    def delete_tree(self, path: str) -> None:
        """Delete a directory with all that is in it, if there is one."""
        with contextlib.suppress(OSError):
            self.filesystem.delete_dir(path)

    def walk(self, path: str) -> Iterator[tuple[str, int]]:
        """All files below a directory: their path from it, and their size in bytes."""
        arrow = _arrow()
        base = path.rstrip("/") + "/"
        for info in self.filesystem.get_file_info(arrow.FileSelector(path, allow_not_found=True, recursive=True)):
            if info.type == arrow.FileType.File:
                yield info.path[len(base) :], int(info.size)

    def _kind(self, path: str) -> Any:
        return self.filesystem.get_file_info(path).type

    @contextlib.contextmanager
    def _replacing(self, path: str) -> Iterator[IO[bytes]]:
        if self.filesystem.type_name in OBJECT_STORES:
            with self.filesystem.open_output_stream(path) as file:
                yield file
            return
        folder, _, _ = path.rpartition("/")
        temporary = f"{folder}/.{secrets.token_hex(6)}.part" if folder else f".{secrets.token_hex(6)}.part"
        try:
            with self.filesystem.open_output_stream(temporary) as file:
                yield file
            self.filesystem.move(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                self.filesystem.delete_file(temporary)
            raise


def files_of(filesystem: Any) -> Files:
    """The files of a pyarrow file system; of this machine for None."""
    return LocalFiles() if filesystem is None else ArrowFiles(filesystem)


def resolve(path: str, filesystem: Any = None) -> tuple[Any, str]:
    """The file system (None: this machine's) and the path on it, of a path or URL.

    Raises ImportError for a URL where there is no pyarrow, and ValueError for one that pyarrow does not know.
    """
    if filesystem is not None:
        arrow = _arrow()
        if not isinstance(filesystem, arrow.FileSystem):
            raise TypeError(f"a file system must be a pyarrow.fs.FileSystem, not {type(filesystem).__name__}")
        if "://" in path:
            raise ValueError(f"with a file system of its own, a path has no URL's beginning: {path!r}")
        if not isinstance(filesystem, arrow.LocalFileSystem):
            return filesystem, path.rstrip("/")
    elif "://" in path:
        arrow = _arrow()
        try:
            found, path = arrow.FileSystem.from_uri(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"pyarrow cannot open {path!r}: {error}") from error
        if not isinstance(found, arrow.LocalFileSystem):
            return found, path.rstrip("/")
    return None, os.path.abspath(os.path.expanduser(path))


def local_filesystem() -> Any:
    """pyarrow's name for this machine's files."""
    return _arrow().LocalFileSystem()


def join(path: str, name: str) -> str:
    """A path of either kind, and a name in it."""
    return f"{path.rstrip('/')}/{name}" if path else name


def walk_links(path: str) -> Iterator[str]:
    """The files below a directory; links are followed. Raises OSError for a link to a directory that it is in."""
    for folder, folders, files in os.walk(path, followlinks=True, onerror=_raise):
        for name in folders:
            one = os.path.join(folder, name)
            if os.path.islink(one) and (os.path.realpath(folder) + os.sep).startswith(os.path.realpath(one) + os.sep):
                raise OSError(errno.ELOOP, "a link leads to the directory that it is in", one)
        for name in files:
            yield os.path.join(folder, name)


def sync_directory(path: str) -> None:
    """Flush a directory's names to disk. File systems that cannot do that for directories are left alone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _copy(source: IO[bytes], file: IO[bytes], size: int | None) -> None:
    """No more than the size: a file that grows faster than it is copied would never end."""
    left = sys.maxsize if size is None else size
    while left > 0 and (chunk := source.read(min(left, CHUNK_BYTES))):
        file.write(chunk)
        left -= len(chunk)


def _raise(error: OSError) -> None:
    raise error


def _arrow() -> Any:
    try:
        from pyarrow import fs
    except ImportError as error:
        raise ImportError(NO_ARROW, name="pyarrow") from error
    return fs
