"""Rows of several tables on their way to the store: each value is moved once, from where it lies to where it stays.

A table that is made in the memory of its task is copied to the store. That memory is new to the system each time.
So the columns of fixed width are made in the store itself, but for the bits that tell nulls. Texts and lists are made
before, as `gather` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from hpc import spi
from hpc.data.block.compact import in_one
from hpc.data.shuffle import gather

#: Rows of fewer bytes are made in the task's own memory, which costs less than to prepare for them.
LEAST_BYTES = 256 << 10
#: Of more tables the columns are brought together before, which costs less than to look at each of them.
MOST_SOURCES = 1000
#: Values of so many rows are copied to the caches of a processor before they are taken: of 8 bytes 512 KiB. To take
#: them from a memory file took 2.7 ns each, and with the copy 2.3.
NEAR_ROWS = 1 << 16


class Run:
    """Rows that follow each other: those of spans (table, first row, row behind the last), one span after the other.

    rows: which of these rows, in what order; None: all, as they lie. length: the number of rows of the spans."""

    __slots__ = ("length", "rows", "spans")

    def __init__(
        self, spans: list[tuple[int, int, int]], rows: np.ndarray | None = None, length: int | None = None
    ) -> None:
        self.spans, self.rows = spans, rows
        self.length = sum(stop - start for _, start, stop in spans) if length is None else length

    def of(self, rows: np.ndarray) -> Run:
        """Other rows of the same spans."""
        return Run(self.spans, rows, self.length)

    @property
    def taken(self) -> int:
        """The number of rows."""
        return self.length if self.rows is None else len(self.rows)


class Sources:
    """Tables whose rows are moved. What is looked up in each of them is looked up once, for all blocks of a task.

    A task of a sort of 1 GB in a store of 256 MB has more than 100 tables of 13 columns. It took a fifth of a
    worker's samples to look again for each block."""

    def __init__(self, tables: Sequence[pa.Table]) -> None:
        self.tables = tables
        self._views: dict[int, list[np.ndarray] | None] = {}

    @property
    def schema(self) -> pa.Schema:
        """The columns of the first."""
        return self.tables[0].schema

    @cached_property
    def are_alike(self) -> bool:
        """Whether all have the same columns, each in one piece."""
        schema = self.schema
        alike = all(one.schema.equals(schema) for one in self.tables)
        return alike and all(column.num_chunks == 1 for one in self.tables for column in one.columns if one.num_rows)

    @cached_property
    def can_be_placed(self) -> bool:
        """Whether all have the same columns, of types that a stream knows, each in one piece."""
        return self.are_alike and pa.ipc.read_schema(self.schema.serialize()) == self.schema

    @cached_property
    def arrays(self) -> list[list[Any]]:
        """For each column that of each table, None where that has no rows. The tables must be alike."""
        found: list[list[Any]] = [[] for _ in self.schema.types]
        for one in self.tables:
            for arrays, column in zip(found, one.columns):
                arrays.append(column.chunk(0) if one.num_rows else None)
        return found

    @cached_property
    def nbytes(self) -> int:
        """The bytes of all tables, about."""
        widths = [gather.fixed_width(kind) for kind in self.schema.types]
        if self.are_alike and all(widths):
            return sum(widths) * sum(one.num_rows for one in self.tables)
        return sum(one.nbytes for one in self.tables)

    def views(self, number: int) -> list[np.ndarray] | None:
        """The values of a column of each table, if they are of fixed width and numpy can see them."""
        if number not in self._views:
            self._views[number] = gather.all_values(self.arrays[number], self.schema.types[number])
        return self._views[number]

    def select(self, names: Sequence[str] | None) -> Sources:
        """The columns of these names, as far as they are there. None: all columns."""
        if names is None:
            return self
        return Sources([one.select([name for name in names if name in one.column_names]) for one in self.tables])


def moved(sources: Sequence[pa.Table] | Sources, runs: Sequence[Run], here: bool = False) -> pa.Table | spi.PlacedTable:
    """The rows of all runs, one run after the other, as a table or as one that is made when it is stored.

    here: as a table, in the memory of this process."""
    sources = sources if isinstance(sources, Sources) else Sources(sources)
    schema, count = sources.schema, sum(run.taken for run in runs)
    width = sum(gather.fixed_width(kind) for kind in schema.types)
    if count * width < max(1, LEAST_BYTES) or len(sources.tables) > MOST_SOURCES or not sources.can_be_placed:
        return _taken(sources.tables, runs)
    placed = spi.PlacedTable()
    together = _Together(runs)
    rest: _Rest | None = None
    columns = []
    for number, kind in enumerate(schema.types):
        views = sources.views(number)
        if views is None:
            rest = rest or _Rest(runs)
            columns.append(rest.column(sources, number))
            if isinstance(columns[-1], pa.ChunkedArray):
                return _taken(sources.tables, runs)
        else:
            size, filling = count * gather.fixed_width(kind), _Filling(views, runs, together)
            buffer = _filled(size, filling) if here else placed.buffer(size, filling)
            columns.append(gather.from_buffer(buffer, count, kind, _valid(sources, number, runs, together)))
    placed.table = pa.Table.from_arrays(columns, schema=schema)
    return placed.table if here else placed


def spanned(sources: Sources, spans: list[tuple[int, int, int]]) -> Any:
    """The rows of spans as a table."""
    if not sources.are_alike or not len(sources.schema):
        return gather.concat([sources.tables[source].slice(start, stop - start) for source, start, stop in spans])
    rest = _Rest([Run(spans)])
    schema = sources.schema
    return pa.Table.from_arrays([rest.column(sources, number) for number in range(len(schema))], schema=schema)


def in_one_piece(table: pa.Table) -> pa.Table | spi.PlacedTable:
    """The same rows, with one chunk for each column, as a table or as one that is made when it is stored."""
    if all(column.num_chunks == 1 for column in table.columns) or table.nbytes < LEAST_BYTES:
        return in_one(table)
    sources = [pa.Table.from_batches([batch]) for batch in table.to_batches()]
    made = moved(sources, [Run([(at, 0, one.num_rows) for at, one in enumerate(sources)])])
    return in_one(made) if isinstance(made, pa.Table) else made


def _filled(size: int, fill: _Filling) -> pa.Buffer:
    buffer = pa.allocate_buffer(size)
    fill(memoryview(buffer))
    return buffer


def _valid(sources: Sources, number: int, runs: Sequence[Run], together: _Together) -> np.ndarray | None:
    """Which values of a column are not null, for all runs; None: all."""
    arrays = sources.arrays[number]
    if not any(array is not None and array.null_count for array in arrays):
        return None
    found = [None if array is None else gather.valid(array) for array in arrays]
    known = [np.ones(one.num_rows, np.uint8) if some is None else some for one, some in zip(sources.tables, found)]
    made = np.empty(sum(run.taken for run in runs), np.uint8)
    _Filling(known, runs, together)(made.data)
    return made


class _Together:
    """A place for the values of a column that are brought together before they are taken. All columns share it: for
    each its pages would be new to the system."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._most = max((run.length for run in runs if _is_brought_near(run)), default=0)
        self._place = np.empty(0, np.uint8)

    def of(self, kind: np.dtype) -> np.ndarray:
        """A place for values of this type, as many as the longest run has."""
        size = self._most * kind.itemsize
        if len(self._place) < size:
            self._place = np.empty(size, np.uint8)
        return self._place[:size].view(kind)


def _is_brought_near(run: Run) -> bool:
    """Whether the values of a run are copied before they are taken. Those of several places are. Those of a piece come
    to a processor's caches so, in their order. That pays where at least half of them are taken."""
    return run.rows is not None and (len(run.spans) > 1 or run.length <= min(NEAR_ROWS, 2 * run.taken))


class _Filling:
    """Moves the values of one column to their place."""

    def __init__(self, views: list[np.ndarray], runs: Sequence[Run], together: _Together) -> None:
        self._views, self._runs, self._together = views, runs, together

    def __call__(self, place: memoryview) -> None:
        kind = self._views[0].dtype
        out, at = np.frombuffer(place, kind), 0
        together = self._together.of(kind)
        for run in self._runs:
            if not run.taken:
                continue
            parts = [self._views[source][start:stop] for source, start, stop in run.spans]
            to = out[at : at + run.taken]
            at += run.taken
            if run.rows is None:
                np.concatenate(parts, out=to)
                continue
            if _is_brought_near(run):
                parts = [np.concatenate(parts, out=together[: run.length])]
            np.take(parts[0], run.rows, out=to, mode="clip")


class _Rest:
    """Columns that are made in the task's own memory, by the numbers of their rows among those of all spans."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._spans = _joined([span for run in runs for span in run.spans])
        starts = accumulate((run.length for run in runs), initial=0)
        rows = [start + (np.arange(run.length) if run.rows is None else run.rows) for start, run in zip(starts, runs)]
        self.rows = None if all(run.rows is None for run in runs) else np.concatenate(rows)
        self._shared: list[pa.Array] = []

    def column(self, sources: Sources, number: int) -> Any:
        """One column."""
        arrays = sources.arrays[number]
        chunks = [arrays[source].slice(start, stop - start) for source, start, stop in self._spans if stop > start]
        column = pa.chunked_array(chunks, sources.schema.types[number])
        return gather.whole(column) if self.rows is None else gather.take_column(column, self.rows, self._shared)


def _joined(spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The same rows, with spans that follow each other in their table as one."""
    found: list[tuple[int, int, int]] = []
    for source, start, stop in spans:
        if found and found[-1][0] == source and found[-1][2] == start:
            found[-1] = (source, found[-1][1], stop)
        else:
            found.append((source, start, stop))
    return found


def _taken(sources: Sequence[pa.Table], runs: Sequence[Run]) -> pa.Table:
    spans = _joined([span for run in runs for span in run.spans])
    tables = [sources[source].slice(start, stop - start) for source, start, stop in spans]
    if not tables:
        return sources[0].slice(0, 0)
    table = gather.concat(tables)
    rows = _Rest(runs).rows
    return table if rows is None else gather.take(table, rows)


def rows_of(made: Any) -> int:
    """The rows of what `moved` gave."""
    return int(table_of(made).num_rows)


def table_of(made: Any) -> pa.Table:
    """A table of the same columns, and of as many rows and bytes."""
    return made.table if isinstance(made, spi.PlacedTable) else made
