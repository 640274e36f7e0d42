"""One file, opened as its format wants it: as bytes, as a stream or for reads at any place. Each way opens it once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from hpc.data.io.errors import ReadError
from hpc.data.io.stage import NodeStage

#: Streams of local files read so much at a time.
BUFFER = 1 << 20
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}


@dataclass
class FileOpener:
    """How the files of a source are opened; travels with its tasks. ``stage`` is where copies of this node are."""

    filesystem: pafs.FileSystem | None = None
    args: dict[str, Any] = field(default_factory=dict)
    stage: NodeStage | None = None

    def at(self, path: str) -> OpenFile:
        """The file at a path; nothing is opened yet."""
        return OpenFile(self, path)

    def gives_content(self, paths: list[str]) -> bool:
        """Whether all of these are local files that are read as they are, and where they are."""
        if self.filesystem is not None or self.stage is not None:
            return False
        if self.args and self.args.get("compression", "detect") != "detect":
            return self.args["compression"] is None
        text = "\n".join(paths).lower() + "\n"
        return not any(f"{ending}\n" in text for ending in CODECS)


class OpenFile:
    """A file that a format reads."""

    __slots__ = ("opener", "path")

    def __init__(self, opener: FileOpener, path: str) -> None:
        self.opener = opener
        self.path = path

    @property
    def local(self) -> str | None:
        """Where the operating system finds the file (the copy of this node, if files are staged), or None."""
        if self.opener.stage is not None:
            return self.opener.stage.local(self.path, self.opener.filesystem)
        return self.path if self.opener.filesystem is None else None

    @property
    def compression(self) -> str | None:
        """The codec that the name of the file, or the caller, tells."""
        if self.opener.args and self.opener.args.get("compression", "detect") != "detect":
            return self.opener.args["compression"]
        path = self.path
        return CODECS.get(path[path.rfind(".") :].lower())

    def raw(self) -> bytes:
        """All of the file as it is on disk: four system calls where it is local."""
        local = self.local
        if local is None:
            with self.random() as file:
                return file.readall()
        descriptor = os.open(local, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            data = os.read(descriptor, size) if size else b""
            if len(data) == size:
                return data
            parts = [data]  # A read gives at most 2 GiB.
            while part := os.read(descriptor, size):
                parts.append(part)
            return b"".join(parts)
        finally:
            os.close(descriptor)

    def content(self) -> bytes:
        """All of the file, decompressed."""
        data, codec = self.raw(), self.compression
        if codec is None:
            return data
        with pa.CompressedInputStream(pa.BufferReader(data), codec) as stream:
            return stream.read()

    def stream(self) -> pa.NativeFile:
        """The file, decompressed, from its beginning to its end."""
        local, codec = self.local, self.compression
        if local is not None:
            file = pa.OSFile(local)
            return pa.CompressedInputStream(file, codec) if codec else file
        args = {"buffer_size": BUFFER, **self.opener.args, "compression": codec}
        assert self.opener.filesystem is not None
        return self.opener.filesystem.open_input_stream(self.path, **args)

    def random(self) -> pa.NativeFile:
        """The file for reads at any place, as it is on disk."""
        local = self.local
        if local is not None:
            return pa.OSFile(local)
        assert self.opener.filesystem is not None
        return self.opener.filesystem.open_input_file(self.path)

    def error(self, what: object, rows: tuple[int, int | None] | None = None, column: str | None = None) -> ReadError:
        """An error that names this file."""
        return ReadError(str(what), self.path, rows, column)
