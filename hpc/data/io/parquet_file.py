"""One parquet file: its footer, the row groups that a filter leaves, and its rows as tables with flat memory."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hpc.data.block import objects
from hpc.data.block.cut import width
from hpc.data.io import statistics
from hpc.data.io.deleted import Deleted, Places, left, of_file
from hpc.data.io.errors import ReadError
from hpc.data.io.formats import Format
from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile

#: A table has about so many bytes in memory. Larger ones leave caches, and take memory that is new to the process: the
#: first tasks of a session took 200 ms of CPU time for 100 MB of it. Each table costs a query up to 1 ms.
TABLE = 4 << 20
#: With more columns than this nobody looks at each: the mean of all is taken for those that are read. With fewer, the
#: sizes of about so many columns of all row groups together are looked at.
MANY_COLUMNS = 1000
#: Row groups that are larger are read through a buffer for each column, so that memory does not grow with them.
BUFFERED = 4 << 20
#: All buffers of a file together; with more columns than this leaves 64 KiB each for, row groups are read whole.
BUFFERS = 64 << 20
SMALLEST_BUFFER = 64 << 10
#: A column of texts with fewer bytes for each value than this is stored as numbers of few values: a text that stands by
#: itself has four bytes for its length alone.
TEXT_BYTES = 3
#: Set in the environment of the workers to let Python objects in files be read.
PICKLED = "HPC_DATA_ALLOW_PICKLED_OBJECTS"


class Footer(NamedTuple):
    """What a footer says: rows and bytes (decoded) of each row group, and the columns. ``kept`` are the row groups
    that a filter leaves; ``meta`` is all that the footer says, None for a file of no bytes."""

    rows: tuple[int, ...]
    nbytes: tuple[int, ...]
    schema: pa.Schema
    kept: tuple[int, ...]
    meta: pq.FileMetaData | None = None

    def pieces(self, path: str) -> Iterator[Piece]:
        """Each row group that is kept as a piece."""
        for index in self.kept:
            yield Piece(path, index, index + 1, self.rows[index], self.nbytes[index])


@dataclass(frozen=True)
class ParquetFormat(Format):
    """``filters`` are expressions that row groups are left out by; rows are filtered by the caller.

    ``encoded`` are columns of texts that may be given as dictionaries.

    ``tensors`` gives columns of bytes a type and a shape. ``options`` go to ``pyarrow.parquet.ParquetFile``,
    ``batch_size`` is the rows of a table, where the caller wants so many. ``deleted`` are rows that are left out.
    """

    tensors: tuple[tuple[str, Any, tuple[int, ...]], ...] = ()
    row_hash: bool = False
    filters: tuple[Any, ...] = ()
    batch_size: int | None = None
    options: tuple[tuple[str, Any], ...] = ()
    encoded: tuple[str, ...] = ()
    deleted: Deleted = ()

    name = "Parquet"
    unit = "row groups"

    def footer(self, file: OpenFile) -> Footer:
        """The footer of a file. A file of no bytes has no rows. Raises ReadError."""
        try:
            with file.random() as opened:
                if opened.size() == 0:
                    return Footer((), (), pa.schema([]), ())
                with pq.ParquetFile(opened, **dict(self.options)) as parquet:
                    meta, schema = parquet.metadata, parquet.schema_arrow
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, (FileNotFoundError, PermissionError)):
                raise
            raise file.error(error) from error
        groups = [meta.row_group(index) for index in range(meta.num_row_groups)]
        kept = tuple(self.left(file, schema, meta))
        rows = tuple(group.num_rows for group in groups)
        if self.deleted:
            rows = left(rows, of_file(self.deleted, file.path))
        return Footer(rows, tuple(group.total_byte_size for group in groups), self.typed(schema), kept, meta)

    def filtered(self, footer: Footer) -> Footer | None:
        """A footer with the row groups that the filters leave, if that can be told without its file."""
        if not all(map(statistics.knows, self.filters)):
            return None
        return footer if footer.meta is None else footer._replace(kept=tuple(self.by_statistics(footer.meta)))

    def by_statistics(self, meta: pq.FileMetaData) -> Sequence[int]:
        """The row groups that may have rows for the filters of which that is known."""
        filters = [expr for expr in self.filters if statistics.knows(expr)]
        if not filters or not meta.num_row_groups:
            return range(meta.num_row_groups)
        first = meta.row_group(0)
        paths = [first.column(index).path_in_schema for index in range(first.num_columns)]
        places = {path: index for index, path in enumerate(paths) if "." not in path}  # a point leads into a struct
        groups = map(meta.row_group, range(meta.num_row_groups))
        return [at for at, group in enumerate(groups) if all(statistics.may_pass(e, group, places) for e in filters)]

    def left(self, file: OpenFile, schema: pa.Schema, meta: pq.FileMetaData) -> Sequence[int]:
        """The row groups whose statistics allow rows that pass the filters."""
        groups, others = self.by_statistics(meta), [expr for expr in self.filters if not statistics.knows(expr)]
        filters = [expr for expr in others if expr.columns() and expr.columns() <= set(schema.names)]
        found = [arrow for expr in filters if (arrow := expr.to_arrow()) is not None]
        if not found or not groups:
            return groups
        import pyarrow.dataset as pads  # it imports pandas: a third of a second of each process that reads a file

        both = found[0]
        for arrow in found[1:]:
            both &= arrow
        local = file.local
        system = pafs.LocalFileSystem() if local is not None else file.opener.filesystem
        fragment = pads.ParquetFileFormat().make_fragment(local or file.path, system)
        try:
            kept = {group.id for group in fragment.subset(both, schema=schema).row_groups}
            return [group for group in groups if group in kept]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            return groups  # Statistics of a type that the filter cannot be compared with.

    def schema(self, file: OpenFile) -> pa.Schema | None:
        return self.footer(file).schema

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        with file.random() as opened:
            size = opened.size()
            if size == 0:
                return
            with pq.ParquetFile(opened, **dict(self.options)) as parquet:
                meta, end = parquet.metadata, piece.end
            groups: Sequence[int] = range(piece.first, meta.num_row_groups if end is None else end)
            if end is None and self.filters:
                groups = self.left(file, meta.schema.to_arrow_schema(), meta)
            if not groups:
                return
            yield from self.rows(file, opened, meta, list(groups), columns)

    def rows(
        self, file: OpenFile, opened: pa.NativeFile, meta: pq.FileMetaData, groups: list[int], columns: list[str] | None
    ) -> Iterator[pa.Table]:
        """The rows of some row groups. Raises ReadError that names the row group and the column."""
        schema = meta.schema.to_arrow_schema()
        names = schema.names
        check_objects(schema, columns, file.path)
        there = None if columns is None else [name for name in columns if name in names]
        sizes = [meta.row_group(index) for index in groups]
        batch = self.batch_size or max(1024, min(1 << 20, int(TABLE / row_bytes(schema, sizes, there)) // 1024 * 1024))
        args = self.reading(file, max((group.total_byte_size for group in sizes), default=0), len(names))
        before = sum(meta.row_group(index).num_rows for index in range(groups[0]))
        done = 0
        gone = of_file(self.deleted, file.path)
        hashed = self.row_hash and (columns is None or "row_hash" in columns)
        places = Places([meta.row_group(index).num_rows for index in range(groups[-1] + 1)], groups)
        few = few_values(schema, sizes) if "read_dictionary" not in dict(self.options) else []
        args |= {"read_dictionary": few} if few else {}
        texts = [name for name in few if name not in self.encoded]
        with pq.ParquetFile(opened, metadata=meta, **args, **dict(self.options)) as parquet:
            batches = parquet.iter_batches(batch, row_groups=groups, columns=there, use_threads=False)
            while True:
                try:
                    found = next(batches, None)
                except (pa.ArrowException, OSError) as error:
                    raise self.corrupt(file, parquet, groups, there, before, done, error) from error
                if found is None:
                    return
                table = pa.Table.from_batches([decoded(found, texts)])
                del found
                done += table.num_rows
                if hashed or len(gone):
                    at = places.next(table.num_rows)
                    if hashed:
                        table = table.append_column("row_hash", row_hashes(file.path, at))
                    if len(gone):
                        table = table.filter(pa.array(~np.isin(at, gone)))
                table = self.completed(table, columns, file)
                yield table
                del table  # or its memory is not there for the next one

    def reading(self, file: OpenFile, largest: int, columns: int) -> dict[str, Any]:
        """How the bytes are fetched. A remote store wants few large requests, a disk little memory."""
        if file.local is None:
            return {"pre_buffer": True}
        buffer = min(1 << 20, BUFFERS // max(1, columns))
        if largest <= BUFFERED or buffer < SMALLEST_BUFFER:
            return {"pre_buffer": False}
        return {"pre_buffer": False, "buffer_size": buffer}

    def corrupt(
        self,
        file: OpenFile,
        parquet: pq.ParquetFile,
        groups: list[int],
        columns: list[str] | None,
        before: int,
        done: int,
        error: Exception,
    ) -> ReadError:
        """The error of a row group: the first one that cannot be read, and its first column that cannot."""
        for index in groups:
            rows = parquet.metadata.row_group(index).num_rows
            if done < rows:
                for name in parquet.schema_arrow.names if columns is None else columns:
                    try:
                        parquet.read_row_group(index, [name], use_threads=False)
                    except (pa.ArrowException, OSError):
                        return file.error(f"row group {index} is corrupt: {error}", (before, before + rows), name)
            done = max(0, done - rows)
            before += rows
        return file.error(error)

    def completed(self, table: pa.Table, columns: list[str] | None, file: OpenFile) -> pa.Table:
        """With nulls for columns that this file has not, and tensors of bytes."""
        for name in columns or ():
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(table.num_rows))
        for name, dtype, shape in self.tensors:
            if name in table.column_names:
                index = table.column_names.index(name)
                table = table.set_column(index, name, tensors(table[name], np.dtype(dtype), shape, file, name))
        return table

    def typed(self, schema: pa.Schema) -> pa.Schema:
        """The schema of what is read, with the columns that are made here."""
        for name, dtype, shape in self.tensors:
            if name in schema.names:
                kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(np.dtype(dtype)), list(shape))
                schema = schema.set(schema.names.index(name), pa.field(name, kind))
        return schema.append(pa.field("row_hash", pa.uint64())) if self.row_hash else schema


def row_bytes(schema: pa.Schema, groups: Sequence[pq.RowGroupMetaData], columns: list[str] | None) -> float:
    """About how many bytes a row of these columns has in memory, as row groups tell. Encoded it may have fewer.

    The first group alone may tell little: in a sorted file it may have nothing but nulls."""
    names, count = schema.names if columns is None else columns, groups[0].num_columns
    if count > MANY_COLUMNS:
        size = sum(group.total_byte_size for group in groups) / max(1, sum(group.num_rows for group in groups))
        return max(1.0, size * len(names) / len(schema))
    some = groups[:: -(-len(groups) * count // MANY_COLUMNS) or 1]
    rows, kinds = max(1, sum(group.num_rows for group in some)), {field.name: field.type for field in schema}
    encoded = dict.fromkeys(names, 0.0)
    for index in range(count):
        name = outermost(groups[0].column(index).path_in_schema, kinds)
        if name in encoded:
            encoded[name] += sum(group.column(index).total_uncompressed_size for group in some) / rows
    return max(1.0, sum(max(encoded[name], width(kinds[name]) or 0) for name in names))


def outermost(path: str, names: Collection[str]) -> str:
    """The column that a path leads into. Its name may have points, as those between the parts of a path."""
    while path not in names and "." in path:
        path = path.rpartition(".")[0]
    return path


def few_values(schema: pa.Schema, groups: Sequence[pq.RowGroupMetaData]) -> list[str]:
    """Columns of texts that are stored as numbers of a few values, in all row groups.

    Such a column is read as a dictionary, and its values are then taken: that is twice as fast."""
    names = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_binary(field.type)]
    if not names or not groups:
        return []
    places = {groups[0].column(index).path_in_schema: index for index in range(groups[0].num_columns)}
    found = []
    for name in names:
        place = places.get(name)
        if place is not None and all(is_small(group.column(place)) for group in groups):
            found.append(name)
    return found


def is_small(chunk: pq.ColumnChunkMetaData) -> bool:
    """Whether the texts of a column have fewer bytes than their lengths alone would take."""
    return bool(chunk.total_uncompressed_size <= TEXT_BYTES * chunk.num_values)


def decoded(batch: pa.RecordBatch, names: list[str]) -> pa.RecordBatch:
    """The batch with these columns as texts again."""
    for name in names:
        if name in batch.schema.names:
            index = batch.schema.get_field_index(name)
            field = batch.schema.field(index)
            batch = batch.set_column(
                index, field.with_type(field.type.value_type), batch.column(index).dictionary_decode()
            )
    return batch


def check_objects(schema: pa.Schema, columns: list[str] | None, path: str) -> None:
    """Raise ReadError for columns with pickled objects, however deep, unless the environment trusts files."""
    found = [one.name for one in schema if objects.has_object(one.type) and (columns is None or one.name in columns)]
    if found and os.environ.get(PICKLED) != "1":
        raise ReadError(f"{found} has pickled objects, which may run any code: set {PICKLED}=1 for own files", path)


def tensors(
    column: pa.ChunkedArray, dtype: np.dtype[Any], shape: tuple[int, ...], file: OpenFile, name: str
) -> pa.Array:
    """A column of bytes as tensors of one type and shape."""
    size = dtype.itemsize * int(np.prod(shape))
    array = column.combine_chunks().cast(pa.large_binary())
    if array.null_count:
        raise file.error("a tensor is null", None, name)
    lengths = {len(value) for value in array.to_pylist()[:1]} if len(array) else {size}
    data = b"".join(array.to_pylist())
    if len(data) != size * len(array) or lengths != {size}:
        raise file.error(f"the cells have not the {size} bytes of a {dtype} tensor of shape {shape}", None, name)
    values = np.frombuffer(data, dtype).reshape(len(array), *shape)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(values)


def row_hashes(path: str, places: np.ndarray) -> pa.Array:
    """A number for each row that depends on its file and place alone."""
    with np.errstate(over="ignore"):
        seed = np.uint64(int.from_bytes(path_digest(path), "little"))
        mixed = seed + places.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        return pa.array(mixed ^ (mixed >> np.uint64(31)))


def path_digest(path: str) -> bytes:
    import hashlib

    return hashlib.blake2b(path.encode(), digest_size=8).digest()
