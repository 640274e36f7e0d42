"""Files that are being written: under a name of their own until they are whole, then under their final name."""

from __future__ import annotations

import os
import urllib.parse
import uuid
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from hpc.data.io.partitioning import NO_VALUE

#: How the names of unfinished files begin. The id of the write follows, and something of each attempt.
PART = ".part-"


#: File systems of object stores: Arrow's, and the protocols of fsspec's.
STORES = ("S3FileSystem", "GcsFileSystem", "AzureFileSystem")
PROTOCOLS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"}


def is_store(filesystem: Any) -> bool:
    """Whether a file system is an object store, or a part of one."""
    if isinstance(filesystem, pafs.SubTreeFileSystem):
        return is_store(filesystem.base_fs)
    if isinstance(filesystem, pafs.PyFileSystem):
        protocol = getattr(getattr(filesystem.handler, "fs", None), "protocol", ())
        return bool(PROTOCOLS & set([protocol] if isinstance(protocol, str) else protocol or ()))
    stores = [getattr(pafs, name, None) for name in STORES]
    return isinstance(filesystem, tuple(store for store in stores if store is not None))


class OutputFolder:
    """Where a write puts its files."""

    def __init__(self, path: str, filesystem: pafs.FileSystem | None, open_args: dict[str, Any]) -> None:
        self.path = path
        self.filesystem = filesystem
        self.open_args = open_args

    @property
    def whole_at_close(self) -> bool:
        """Whether a file comes to be at its close alone, as in object stores: it needs no other name before."""
        return is_store(self.filesystem)

    def exists(self) -> bool:
        if self.filesystem is None:
            return os.path.exists(self.path)
        return self.filesystem.get_file_info(self.path).type != pafs.FileType.NotFound

    def make(self, path: str | None = None) -> None:
        """Make the folder, and those above it."""
        if self.filesystem is None:
            os.makedirs(path or self.path, exist_ok=True)
        elif not self.whole_at_close:
            self.filesystem.create_dir(path or self.path, recursive=True)

    def files(self) -> list[str]:
        """All files inside, also hidden ones."""
        if self.filesystem is None:
            return [os.path.join(folder, name) for folder, _, names in os.walk(self.path) for name in names]
        selector = pafs.FileSelector(self.path, recursive=True, allow_not_found=True)
        return [one.path for one in self.filesystem.get_file_info(selector) if one.type == pafs.FileType.File]

    def remove(self, path: str) -> None:
        """Remove a file, if it is there, and the folders that it leaves empty (but for this one)."""
        try:
            if self.filesystem is not None:
                self.filesystem.delete_file(path)
                return
            os.unlink(path)
        except FileNotFoundError:
            return
        folder = os.path.dirname(path)
        while folder.startswith(self.path + os.sep):
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)

    def remove_if_empty(self) -> None:
        """Remove the folder if nothing is in it."""
        if self.filesystem is None:
            try:
                os.rmdir(self.path)
            except OSError:
                pass
        elif not self.files():
            self.filesystem.delete_dir(self.path)

    def sweep(self, write_id: str) -> None:
        """Remove what is unfinished of a write: what killed attempts left."""
        for path in self.files():
            if path.rpartition("/")[2].startswith(f"{PART}{write_id}"):
                self.remove(path)

    def begin(self, name: str, write_id: str) -> Output:
        """A new file with a name, which may have folders in it."""
        return Output(self, f"{self.path}/{name}", write_id)


class Output:
    """One file: ``file`` takes its bytes, ``close`` ends them, ``commit`` makes it visible; ``abandon`` removes it."""

    def __init__(self, folder: OutputFolder, path: str, write_id: str) -> None:
        self.folder = folder
        self.path = path
        parent = path.rpartition("/")[0]
        if parent != folder.path:
            folder.make(parent)
        self.part = path if folder.whole_at_close else f"{parent}/{PART}{write_id}-{uuid.uuid4().hex}"
        self.rows = 0
        self.size = 0
        self.closed = False
        args = {key: value for key, value in folder.open_args.items() if key != "compression"}
        if folder.filesystem is None:
            raw = pa.OSFile(self.part, "wb")
        else:
            raw = folder.filesystem.open_output_stream(self.part, compression=None, **args)
        self.raw = raw
        codec = folder.open_args.get("compression")
        self.file = pa.CompressedOutputStream(raw, codec) if codec and codec != "detect" else raw

    def close(self) -> None:
        """End the file, which keeps the name that it has. More than once is fine."""
        if self.closed:
            return
        if self.file is self.raw and not self.raw.closed:
            self.size = self.raw.tell()
            self.raw.close()
        else:
            self.file.close()  # What is compressed has its size at the end, and has closed the file beneath.
            self.raw.close()
            self.size = self._size()
        self.closed = True

    def _size(self) -> int:
        if self.folder.filesystem is None:
            return os.path.getsize(self.part)
        return self.folder.filesystem.get_file_info(self.part).size

    def commit(self) -> None:
        """Give the file its name, closed: it replaces what another attempt of the task has made."""
        self.close()
        if self.part == self.path:
            return
        if self.folder.filesystem is None:
            os.replace(self.part, self.path)
        else:
            self.folder.filesystem.move(self.part, self.path)

    def abandon(self) -> None:
        """Remove what was written."""
        for file in (self.file, self.raw):
            try:
                file.close()
            except (OSError, pa.ArrowException):
                pass
        try:
            if self.folder.filesystem is None:
                os.unlink(self.part)
            else:
                self.folder.filesystem.delete_file(self.part)
        except OSError:
            pass


def hive_folder(names: tuple[str, ...], values: tuple[Any, ...]) -> str:
    """The folders of a partition: ``year=2024/month=3``."""
    return "/".join(f"{name}={hive_value(value)}" for name, value in zip(names, values))


def hive_value(value: Any) -> str:
    if value is None:
        return NO_VALUE
    return urllib.parse.quote(str(value), safe="")
