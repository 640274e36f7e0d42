"""Formats that are written: how tables become the bytes of a file, one table after the other."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import batch, promote
from hpc.data.block.views import parquet_type, with_types
from hpc.data.io import webdataset


class Written:
    """A file that takes tables of one schema, and is whole after ``close``."""

    def write(self, table: pa.Table) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Write what is left. The caller closes the file itself."""


class Writer:
    """A format. ``extension`` is that of its files; ``appends`` says that tables of any schema follow each other."""

    name: str = "Files"
    extension: str | None = None
    #: Whether each row is a file.
    by_row: bool = False
    #: Whether tables of several schemas may be in one file.
    mixed: bool = False

    def begin(self, file: pa.NativeFile, schema: pa.Schema) -> Written:
        """Begin a file of tables of this schema."""
        raise NotImplementedError

    def write_row(self, row: dict[str, Any], file: pa.NativeFile) -> None:
        """Write the file of one row, where each row is a file."""
        raise NotImplementedError


def arguments(given: dict[str, Any], function: Callable[[], dict[str, Any]] | None) -> dict[str, Any]:
    """The options of a writer: those that are given, and over them those that a function makes in the task."""
    return {**given, **(function() if function is not None else {})}


@dataclass
class ParquetWriter(Writer):
    """``options`` go to `pyarrow.parquet.ParquetWriter`; row_group_size is the rows of a row group."""

    options: dict[str, Any] = field(default_factory=dict)
    options_fn: Callable[[], dict[str, Any]] | None = None

    name = "Parquet"
    extension = "parquet"

    def begin(self, file: pa.NativeFile, schema: pa.Schema) -> Written:
        import pyarrow.parquet as pq

        options = arguments(self.options, self.options_fn)
        group = options.pop("row_group_size", None)
        stored = with_types(schema, parquet_type)
        return _ParquetFile(pq.ParquetWriter(file, stored, **options), group, None if stored is schema else stored)


class _ParquetFile(Written):
    """Tables are gathered to row groups: a row group for each small table would make slow files."""

    def __init__(self, writer: Any, group: int | None, schema: pa.Schema | None) -> None:
        self.writer = writer
        self.group = group
        self.schema = schema  # to which tables are cast; None: as they are
        self.waiting: list[pa.Table] = []
        self.rows = self.size = 0

    def write(self, table: pa.Table) -> None:
        self.waiting.append(table if self.schema is None else table.cast(self.schema))
        self.rows += table.num_rows
        self.size += table.nbytes
        most = self.group or 1 << 20
        if self.rows >= most or (self.group is None and self.size >= 64 << 20):
            whole = pa.concat_tables(self.waiting)
            end = whole.num_rows // most * most if self.group else whole.num_rows
            self.writer.write_table(whole.slice(0, end), row_group_size=most)
            rest = whole.slice(end)
            self.waiting = [rest] if rest.num_rows else []
            self.rows, self.size = rest.num_rows, rest.nbytes

    def close(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting), row_group_size=self.group or 1 << 20)
        self.writer.close()


@dataclass
class CsvWriter(Writer):
    """``options``: write_options of `pyarrow.csv.CSVWriter`."""

    options: dict[str, Any] = field(default_factory=dict)
    options_fn: Callable[[], dict[str, Any]] | None = None

    name = "CSV"
    extension = "csv"

    def begin(self, file: pa.NativeFile, schema: pa.Schema) -> Written:
        import pyarrow.csv as pacsv

        options = arguments(self.options, self.options_fn)
        return _ArrowFile(lambda: pacsv.CSVWriter(file, schema, **options), schema)


class _ArrowFile(Written):
    """A writer of Arrow's, which names no column in its errors."""

    def __init__(self, make: Callable[[], Any], schema: pa.Schema) -> None:
        self.schema = schema
        self.writer = self.named(make)
        self.write_table = getattr(self.writer, "write_table", None) or self.writer.write

    def named(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            nested = [one.name for one in self.schema if is_nested(one.type)]
            hint = f"; the columns {nested} have nested types" if nested else ""
            raise ValueError(f"the format cannot hold this table: {error}{hint}") from error

    def write(self, table: pa.Table) -> None:
        self.named(lambda: self.write_table(table))

    def close(self) -> None:
        self.writer.close()


def is_nested(kind: pa.DataType) -> bool:
    return pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType)


@dataclass
class OrcWriter(Writer):
    """``options`` go to `pyarrow.orc.ORCWriter`."""

    options: dict[str, Any] = field(default_factory=dict)
    options_fn: Callable[[], dict[str, Any]] | None = None

    name = "ORC"
    extension = "orc"

    def begin(self, file: pa.NativeFile, schema: pa.Schema) -> Written:
        from pyarrow import orc

        options = arguments(self.options, self.options_fn)
        return _ArrowFile(lambda: orc.ORCWriter(file, **options), schema)


@dataclass
class JsonWriter(Writer):
    """``options`` go to `pandas.DataFrame.to_json`; an object for each line unless they say otherwise."""

    options: dict[str, Any] = field(default_factory=dict)
    options_fn: Callable[[], dict[str, Any]] | None = None

    name = "JSON"
    extension = "json"
    mixed = True

    def begin(self, file: pa.NativeFile, schema: pa.Schema) -> Written:
        options = {"orient": "records", "lines": True, **arguments(self.options, self.options_fn)}
        return _JsonFile(file, options)


class _JsonFile(Written):
    def __init__(self, file: pa.NativeFile, options: dict[str, Any]) -> None:
        self.file = file
        self.options = options
        self.waiting: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        if self.options["lines"] and not self.options.get("compression"):
            self.put(table)
        else:
            self.waiting.append(table)

    def put(self, table: pa.Table) -> None:
        buffer = io.BytesIO()
        batch.to_pandas(table).to_json(buffer, **self.options)
        data = buffer.getvalue()
        self.file.write(data if data.endswith(b"\n") or not self.options["lines"] else data + b"\n")

    def close(self) -> None:
        if self.waiting:
            self.put(promote.concat(self.waiting))


@dataclass
class NumpyWriter(Writer):
    """The values of one column as an array."""

    column: str

    name = "Numpy"
    extension = "npy"
    mixed = True

    def begin(self, file: pa.NativeFile, schema: pa.Schema) -> Written:
        if self.column not in schema.names:
            raise ValueError(f"there is no column {self.column!r} to write; there are {schema.names}")
        return _NumpyFile(file, self.column)


class _NumpyFile(Written):
    def __init__(self, file: pa.NativeFile, column: str) -> None:
        self.file = file
        self.column = column
        self.waiting: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        self.waiting.append(table.select([self.column]))

    def close(self) -> None:
        array = batch.column_to_numpy(promote.concat(self.waiting)[self.column])
        np.save(self.file, array, allow_pickle=False)


@dataclass
class ImageWriter(Writer):
    """Each row's array in one column as an image."""

    column: str
    file_format: str = "png"

    name = "Image"
    by_row = True

    def __post_init__(self) -> None:
        self.extension = self.file_format

    def write_row(self, row: dict[str, Any], file: pa.NativeFile) -> None:
        from PIL import Image

        if self.column not in row:
            raise ValueError(f"there is no column {self.column!r} to write; there are {list(row)}")
        buffer = io.BytesIO()
        kind = {"jpg": "jpeg", "tif": "tiff"}.get(self.file_format.lower(), self.file_format)
        Image.fromarray(np.asarray(row[self.column])).save(buffer, format=kind)
        file.write(buffer.getvalue())


@dataclass
class WebDatasetWriter(Writer):
    """Rows as samples of tar archives. ``encoder``: True for the usual one, None for cells that are bytes already."""

    encoder: Any = True

    name = "WebDataset"
    extension = "tar"
    mixed = True

    def begin(self, file: pa.NativeFile, schema: pa.Schema) -> Written:
        return _TarFile(file, self.encoder)


class _TarFile(Written):
    def __init__(self, file: pa.NativeFile, encoder: Any) -> None:
        self.archive = tarfile.open(fileobj=file, mode="w|")
        self.encoder = encoder
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        for row in batch.rows(table):
            sample = webdataset.applied(self.encoder, row, webdataset.encoded)
            key = sample.get("__key__") or uuid.uuid4().hex
            for name, value in sample.items():
                if value is None or name.startswith("__"):
                    continue
                data = value.encode() if isinstance(value, str) else value
                if not isinstance(data, bytes):
                    raise ValueError(
                        f"the column {name!r} has a {type(value).__name__}, which is neither text nor bytes"
                    )
                self.add(f"{key}.{name}", data)
            self.rows += 1

    def add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode, member.uname, member.gname = 0o644, "data", "data"
        self.archive.addfile(member, io.BytesIO(data))

    def close(self) -> None:
        self.archive.close()
