"""The face of a file format: how one file, or a piece of it, becomes tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile


class Format:
    """How files of one kind are read. Pickled with each task."""

    #: In one word, for plans and progress.
    name: str = "Files"
    #: The bytes of tables that come from a byte of the files, about.
    factor: float = 1.0
    #: By what a piece of a file is told.
    unit: str = "bytes"
    #: The rows of each file, where all have as many.
    rows_per_file: int | None = None
    #: Whether the rows are the files themselves: one column of their bytes.
    is_content: bool = False
    #: The column of the values, where there is one row for each file.
    column: str = "data"
    #: Whether ``parts`` can tell pieces of a file.
    has_parts: bool = False
    #: Of more files than this no pieces are asked for: each is a task, and to learn its pieces takes time. None: all.
    few_files: int | None = None

    def parts(self, file: OpenFile) -> list[Piece] | None:
        """The pieces that a file has, by its metadata; None: it is read as a whole."""
        return None

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        """The tables of a piece, in order. It may leave out all but ``columns`` (None: all are wanted)."""
        raise NotImplementedError

    def schema(self, file: OpenFile) -> pa.Schema | None:
        """The columns of a file."""
        first = next(iter(self.tables(file, Piece(file.path), None)), None)
        return None if first is None else first.schema

    def piece_bytes(self, path: str, compressed: bool) -> int | None:
        """Into how large pieces a file may be cut by bytes; None: a file is read as a whole."""
        return None


class ValueFormat(Format):
    """A format with one row for each file: the values of many files become one table."""

    rows_per_file = 1

    def value(self, file: OpenFile) -> tuple[Any, int]:
        """The value of a file, and its size in bytes."""
        raise NotImplementedError

    def table(self, values: list[Any]) -> pa.Table:
        """A table of some values."""
        raise NotImplementedError

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        yield self.table([self.value(file)[0]])
