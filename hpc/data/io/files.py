"""Sources of files: which files, in which order, in which tasks; and the task that reads some of them."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.context import DataContext
from hpc.data.io import retrying
from hpc.data.io.errors import ReadError
from hpc.data.io.formats import Format, ValueFormat
from hpc.data.io.grouping import PIECE, Piece, Sizes, groups, pieces, without
from hpc.data.io.listing import Entry
from hpc.data.io.manifest import Manifest
from hpc.data.io.narrow import Narrow
from hpc.data.io.opened import FileOpener, OpenFile
from hpc.data.io.packed import FULL, Column, Packed
from hpc.data.io.partitioning import PathPartitionFilter, PathPartitionParser
from hpc.data.io.source import HEAD, Estimate, Range, Source, SourceTask
from hpc.data.options import FileShuffleConfig
from hpc.data.transform.base import TaskContext

#: Small tables of one task are joined up to so many bytes, and values of single files too.
JOINED = FULL
#: Tables of so many bytes are passed on as they come.
ALONE = 2 << 20
#: The files that are opened to learn of their pieces before there are tasks.
OPENED = 64
#: A call that takes longer than this is slow: those after it are made by threads.
QUICK_S = 0.002
#: This number of files is asked for metadata at a time.
THREADS = 16

T = TypeVar("T")
R = TypeVar("R")


ALL = Narrow()


@dataclass(frozen=True)
class Reading:
    """What all tasks of a source share, and travels with each."""

    format: Format
    opener: FileOpener
    partitions: PathPartitionParser | None = None
    include_paths: bool = False
    narrow: Narrow = ALL

    def added(self, path: str) -> pa.Schema:
        """The columns that are not in the file itself."""
        fields = list(self.partitions.fields(path)) if self.partitions is not None else []
        return pa.schema([*fields, *([pa.field("path", pa.string())] if self.include_paths else [])])

    def columns_of_file(self, path: str) -> list[str] | None:
        """The columns that must come from the file; None: all."""
        wanted, added = self.narrow.wanted, self.added(path).names
        return None if wanted is None else [name for name in wanted if name not in added]

    def decorated(self, table: pa.Table, paths: list[str]) -> pa.Table:
        """The table with the values of partitions and paths, of one file, or of one file for each row."""
        for field in self.added(paths[0]):
            if field.name == "path" and self.include_paths:
                values: list[Any] = list(paths)
            else:
                assert self.partitions is not None
                values = [self.partitions(path).get(field.name) for path in paths]
            if len(paths) == 1:
                array = pa.repeat(pa.scalar(values[0], field.type), table.num_rows)
            else:
                array = pa.array(values, field.type)
            if field.name not in table.column_names:
                table = table.append_column(field, array)
            elif not pc.all(pc.equal(pc.cast(table[field.name], field.type, safe=False), array)).as_py():
                raise ValueError(f"the column {field.name!r} of the file has other values than its path says")
        return table


class FileTask(SourceTask):
    """Some files, or pieces of them."""

    def __init__(self, reading: Reading, parts: list[Piece], node: str | None = None) -> None:
        self.reading = reading
        self.parts = parts
        self.node = node

    @property
    def files(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(dict.fromkeys(part.path for part in self.parts))

    @property
    def rows(self) -> int | None:  # type: ignore[override]
        if self.reading.narrow.filters:
            return None
        rows = [part.rows for part in self.parts]
        known = [count for count in rows if count is not None]
        if len(known) < len(rows):
            per = self.reading.format.rows_per_file
            if per is None:
                return None
            known = [per] * len(rows)
        limit = self.reading.narrow.limit
        return sum(known) if limit is None else min(limit, sum(known))

    @property
    def nbytes(self) -> int | None:  # type: ignore[override]
        sizes = [part.nbytes for part in self.parts]
        known = [size for size in sizes if size is not None]
        return int(sum(known) * len(sizes) / len(known) * self.reading.format.factor) if known else None

    @property
    def key(self) -> str:  # type: ignore[override]
        text = "\n".join(f"{part.path}\t{part.first}\t{part.end}" for part in self.parts)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def with_columns(self, names: Sequence[str]) -> SourceTask | None:
        narrow = self.reading.narrow.with_columns(list(names))
        return FileTask(replace(self.reading, narrow=narrow), self.parts, self.node)

    @property
    def where(self) -> str:
        if len(self.parts) != 1 or self.parts[0].end is None:
            return super().where
        (part,) = self.parts
        return f"{part.path} {self.reading.format.unit} {part.first} to {part.end}"

    @property
    def ranges(self) -> tuple[Range, ...]:
        return tuple((part.path, part.first, part.end) for part in self.parts)

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        task.ranges = self.ranges
        narrow = self.reading.narrow
        if self.reading.format.is_content and self.reading.opener.gives_content([part.path for part in self.parts]):
            tables = self.packed(task)
        elif isinstance(self.reading.format, ValueFormat):
            tables = self.values(task, self.reading.format)
        else:
            tables = joined(self.tables(task))
        return narrow.limited(tables)

    def tables(self, task: TaskContext) -> Iterator[pa.Table]:
        reading = self.reading
        for part in self.parts:
            file = reading.opener.at(part.path)
            rows = 0
            task.source = part.path
            with named(file) as at:
                columns = reading.columns_of_file(part.path)
                begin = partial(reading.format.tables, file, part, columns)
                for table in retrying.iterated(begin, task.context):
                    task.source = f"{part.path} rows {rows} to {rows + table.num_rows}"
                    rows += table.num_rows
                    check_names(table)
                    at.rows = rows
                    table = reading.narrow.apply(reading.decorated(table, [part.path]))
                    yield table
                    del table  # or its memory is not there for the next one

    def values(self, task: TaskContext, form: ValueFormat) -> Iterator[pa.Table]:
        """Tables of the values of many files each."""
        values: list[Any] = []
        paths: list[str] = []
        size = 0
        opener = self.reading.opener
        with named(opener.at("")) as at:  # One for all: there are many files.
            for part in self.parts:
                task.source = path = part.path
                at.file = file = opener.at(path)
                try:
                    value, nbytes = form.value(file)
                except Exception as error:
                    value, nbytes = retrying.again(partial(form.value, file), error, task.context)
                values.append(value)
                paths.append(path)
                size += nbytes
                if size >= JOINED:
                    yield self.joined_values(form, values, paths)
                    values, paths, size = [], [], 0
        if values:
            yield self.joined_values(form, values, paths)

    def packed(self, task: TaskContext) -> Iterator[pa.Table]:
        """Tables of the bytes of many files each."""
        opener, packed = self.reading.opener, Packed()
        with named(opener.at("")) as at:
            for part in self.parts:
                task.source = path = part.path
                try:
                    packed.add(path)
                except Exception as error:
                    at.file = opener.at(path)
                    retrying.again(partial(packed.add, path), error, task.context)
                if packed.ready:
                    yield from map(self.of_column, packed.taken())
        packed.end()
        yield from map(self.of_column, packed.taken())

    def of_column(self, column: Column) -> pa.Table:
        table = pa.table({self.reading.format.column: column.values})
        return self.reading.narrow.apply(self.reading.decorated(table, column.paths))

    def joined_values(self, form: ValueFormat, values: list[Any], paths: list[str]) -> pa.Table:
        return self.reading.narrow.apply(self.reading.decorated(form.table(values), paths))


def check_names(table: pa.Table) -> None:
    """Raise ValueError for columns of one name: rows have one value for each name, and the others would be lost."""
    names = table.column_names
    if len(set(names)) < len(names):
        several = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"there are several columns of the names {several}: give each one its own")


class named:
    """A block whose errors name the file and the rows that were read before."""

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        self.rows: int | None = None

    def __enter__(self) -> named:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(
            error, (ReadError, FileNotFoundError, PermissionError, MemoryError, ImportError)
        ):
            rows = None if self.rows is None else (self.rows, None)
            words = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            raise self.file.error(words or type(error).__name__, rows) from error


def merged(group: list[Piece]) -> list[Piece]:
    """Neighbouring pieces of a file as one: the file is opened once."""
    found: list[Piece] = []
    for piece in group:
        last = found[-1] if found else None
        if last is not None and last.path == piece.path and last.end == piece.first and piece.end is not None:
            rows = None if last.rows is None or piece.rows is None else last.rows + piece.rows
            found[-1] = Piece(last.path, last.first, piece.end, rows, (last.nbytes or 0) + (piece.nbytes or 0))
        else:
            found.append(piece)
    return found


def joined(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Neighbouring small tables of one schema as one: many small files make few tables."""
    waiting: list[pa.Table] = []
    size = 0
    for table in tables:
        nbytes = table.nbytes
        alone = nbytes >= ALONE or table.num_columns == 0  # Arrow forgets the rows of tables without columns.
        if waiting and (alone or size + nbytes > JOINED or not table.schema.equals(waiting[0].schema)):
            yield pa.concat_tables(waiting) if len(waiting) > 1 else waiting[0]
            waiting, size = [], 0
        if alone:
            yield table
            del table
            continue
        waiting.append(table)
        size += nbytes
    if waiting:
        yield pa.concat_tables(waiting) if len(waiting) > 1 else waiting[0]


class FileSource(Source):
    """The files of a manifest, read in one format."""

    def __init__(
        self,
        manifest: Manifest,
        reading: Reading,
        *,
        partition_filter: PathPartitionFilter | None = None,
        shuffle: str | FileShuffleConfig | None = None,
        skip: frozenset[str] = frozenset(),
        node: str | None = None,
    ) -> None:
        if not (shuffle is None or shuffle == "files" or isinstance(shuffle, FileShuffleConfig)):
            raise ValueError(f"shuffle is None, 'files' or a FileShuffleConfig, and not {shuffle!r}")
        self.name = reading.format.name
        self.manifest = manifest
        self.reading = reading
        self.partition_filter = partition_filter
        self.shuffle = FileShuffleConfig() if shuffle == "files" else shuffle
        self.skip = skip
        self.node = node
        self.executions = 0
        #: The ranges of files that are not read again.
        self.done: dict[str, list[tuple[int, int | None]]] = {}
        #: Filters over columns of paths alone: files are left out by them.
        self.pruning: tuple[Any, ...] = ()

    # -------------------------------------------------------------- which files

    def entries(self) -> Iterator[Entry]:
        """The files that are read, in the order of the listing."""
        kept: dict[str, bool] = {}
        for entry in self.manifest:
            path = entry.path
            if path in self.skip or (self.partition_filter is not None and not self.partition_filter.apply(path)):
                continue
            if self.pruning:
                folder = os.path.dirname(path)
                if folder not in kept:
                    kept[folder] = self.keeps(path)
                if not kept[folder]:
                    continue
            yield entry

    def keeps(self, path: str) -> bool:
        """Whether the values of a path pass all filters that look at nothing else."""
        partitions = self.reading.partitions
        if partitions is None or not (values := partitions(path)):
            return True
        # The types are those of the columns: a null tells none.
        row = pa.Table.from_pylist([values], partitions.fields(path))
        return all(pc.any(column(expr.evaluate(row))).as_py() for expr in self.pruning)

    def ordered(self) -> Iterator[Entry]:
        """The files in the order of this execution."""
        if self.shuffle is None:
            return self.entries()
        assert isinstance(self.shuffle, FileShuffleConfig)
        entries = list(self.entries())
        seed = self.shuffle.get_seed(self.executions)
        self.executions += 1
        return iter([entries[index] for index in np.random.default_rng(seed).permutation(len(entries))])

    def files(self) -> list[str]:
        return [entry.path for entry in self.entries()]

    @property
    def here(self) -> FileOpener:
        """How the driver opens files: where they are, as it looks at their metadata alone."""
        return replace(self.reading.opener, stage=None)

    def size(self, entry: Entry) -> int | None:
        return os.stat(entry.path).st_size if self.reading.opener.filesystem is None else None

    # -------------------------------------------------------------- what is known

    def estimate(self) -> Estimate:
        entries = list(islice(self.entries(), HEAD))
        sizes = Sizes(self.size)
        for entry in entries:
            sizes.of(entry)
        rows = self.reading.format.rows_per_file
        count = len(entries)
        return Estimate(
            rows * count if count < HEAD and rows is not None else None,
            int(sizes.mean * count * self.reading.format.factor) if sizes.known else None,
            count,
        )

    @cached_property
    def first_schema(self) -> pa.Schema | None:
        """The columns of the first file, with those of its path."""
        entry = next(self.entries(), None)
        if entry is None:
            return None
        with named(file := self.here.at(entry.path)):
            schema = retrying.called(partial(self.reading.format.schema, file), DataContext.get_current())
        if schema is None:
            return None
        added = [field for field in self.reading.added(entry.path) if field.name not in schema.names]
        return pa.schema([*schema, *added])

    def schema(self) -> pa.Schema | None:
        schema = self.first_schema
        return None if schema is None else self.reading.narrow.schema(schema)

    def count(self) -> int | None:
        rows = self.reading.format.rows_per_file
        if rows is None or self.reading.narrow.filters or self.reading.narrow.limit is not None:
            return None
        return rows * sum(1 for _ in self.entries())

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        sizes = Sizes(self.size)
        if self.has_parts:
            found = self.parts(sizes)
        else:
            found = pieces(self.ordered(), sizes, self.piece_bytes(parallelism))
        for group in groups(self.left(found), sizes, parallelism):
            yield FileTask(self.reading, merged(group), self.node)

    @property
    def has_parts(self) -> bool:
        """Whether its files are asked for their pieces. Where that is dear, not of many, nor for a number of rows."""
        form = self.reading.format
        if not form.has_parts or form.few_files is None:
            return form.has_parts
        is_few = next(islice(self.entries(), form.few_files, None), None) is None
        return is_few and self.reading.narrow.limit is None

    def parts(self, sizes: Sizes) -> Iterator[Piece]:
        """The pieces that the metadata of the first files tells; later files as wholes, of the same mean size."""
        for index, entry in enumerate(self.ordered()):
            found = None
            if index < OPENED:
                try:
                    found = self.reading.format.parts(self.here.at(entry.path))
                except (OSError, ValueError):
                    pass  # The task that reads it says what is wrong.
            if found is None:
                yield Piece(entry.path, nbytes=entry.size)
                continue
            sizes.known += 1
            sizes.total += sum(piece.nbytes or 0 for piece in found)
            yield from found

    def left(self, found: Iterator[Piece]) -> Iterator[Piece]:
        """The pieces without what was done before."""
        if not self.done:
            yield from found
            return
        for piece in found:
            if piece.path not in self.done:
                yield piece
                continue
            for first, end in without(self.done[piece.path], piece.first, piece.end):
                same = (first, end) == (piece.first, piece.end)
                yield piece if same else Piece(piece.path, first, end)

    def without(self, done: Collection[Range]) -> Source:
        other = self.narrowed(self.reading.narrow)
        other.done = {path: list(ranges) for path, ranges in self.done.items()}
        for path, first, end in done:
            other.done.setdefault(path, []).append((first, end))
        return other

    # -------------------------------------------------------------- rows that metadata tells

    def counts(self, tasks: Iterable[SourceTask]) -> Iterator[int | None]:
        return ahead(self.count_of, tasks)

    def count_of(self, task: SourceTask) -> int | None:
        """The rows of one of its tasks."""
        if task.rows is not None or not self.tells_rows or not isinstance(task, FileTask):
            return task.rows
        found = [self.inner(part) if part.rows is None else [part] for part in task.parts]
        return None if None in found else sum(piece.rows or 0 for some in found for piece in some or ())

    def behind(self, task: SourceTask, rows: int) -> tuple[int, SourceTask]:
        if not self.tells_rows or not isinstance(task, FileTask):
            return 0, task
        left, parts = rows, list(task.parts)
        while parts and (found := self.inner(parts[0])) is not None:
            kept = list(found)
            while kept and (kept[0].rows or 0) <= left:
                left -= kept.pop(0).rows or 0
            parts[:1] = merged(kept)
            if kept:
                break
        return rows - left, FileTask(task.reading, parts, task.node)

    @property
    def tells_rows(self) -> bool:
        """Whether rows of files are rows of tasks."""
        return not self.reading.narrow.filters and self.reading.narrow.limit is None

    def inner(self, part: Piece) -> list[Piece] | None:
        """A piece in its smallest pieces, each with its rows, as metadata tells them; None where it does not."""
        if part.rows is not None and not self.has_parts:
            return [part]
        if not self.has_parts:
            per = self.reading.format.rows_per_file
            return None if per is None or (part.first, part.end) != (0, None) else [part._replace(rows=per)]
        try:
            found = self.reading.format.parts(self.here.at(part.path))
        except (OSError, ValueError):
            return None
        if found is None or any(piece.rows is None or piece.end is None for piece in found):
            return None
        inside = [one for one in found if one.first >= part.first and (part.end is None or (one.end or 0) <= part.end)]
        ends = (inside[0].first, inside[-1].end) if inside else None
        return inside if ends == (part.first, part.end if part.end is not None else found[-1].end) else None

    def piece_bytes(self, parallelism: int) -> Any:
        reading = self.reading
        if type(reading.format).piece_bytes is Format.piece_bytes:
            return None  # No file of this format is cut: there may be many.

        def most(entry: Entry) -> int | None:
            compressed = reading.opener.at(entry.path).compression is not None
            least = reading.format.piece_bytes(entry.path, compressed)
            if least is None or (entry.size is None and reading.opener.filesystem is not None):
                return None
            return max(least, min(PIECE, (entry.size or 0) // parallelism)) if parallelism > 0 else PIECE

        return most

    # -------------------------------------------------------------- what a plan moves here

    def narrowed(self, narrow: Narrow) -> FileSource:
        other = copy(self)
        other.__dict__.pop("first_schema", None)
        other.reading = replace(self.reading, narrow=narrow)
        return other

    def with_columns(self, names: list[str]) -> Source | None:
        return self.narrowed(self.reading.narrow.with_columns(names))

    def with_limit(self, rows: int) -> Source | None:
        return self.narrowed(self.reading.narrow.with_limit(rows))

    def with_filter(self, expr: Any) -> Source | None:
        """Filters over the columns of paths leave out files; others are for formats that know more of their files."""
        if not self.reading.narrow.filterable(expr) or not self.by_path(expr):
            return None
        other = self.narrowed(self.reading.narrow.with_filter(expr))
        other.pruning = (*self.pruning, expr)
        return other

    def by_path(self, expr: Any) -> bool:
        """Whether an expression looks at columns of paths alone."""
        first = self.manifest.first()
        if first is None or self.reading.partitions is None:
            return False
        return bool(expr.columns()) and expr.columns() <= set(self.reading.partitions(first.path))


def ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """The function's values in order; threads call it for later items while earlier values are used.

    They begin with the first call that takes long: to start them takes as long as several short ones."""
    left = iter(items)
    for item in left:
        began = time.perf_counter()
        value = function(item)
        slow = time.perf_counter() - began > QUICK_S
        yield value
        if slow:
            yield from by_threads(function, left)


def by_threads(function: Callable[[T], R], items: Iterator[T]) -> Generator[R, None, None]:
    """The function's values in order. For each thread two calls are made ahead."""
    with ThreadPoolExecutor(THREADS, "hpc-metadata") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def column(value: Any) -> Any:
    """What an expression gave, as an array."""
    return value if isinstance(value, (pa.Array, pa.ChunkedArray)) else pa.array([value])
