"""Rows of several tables on their way to the store: each value is moved once, from where it lies to where it stays.

A table that is made in the memory of its task is copied to the store. That memory is new to the system each time.
So the columns of fixed width are made in the store itself. Texts, and columns in which some values are null, are made
before, as `gather` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from hpc import spi
from hpc.data.block.compact import in_one
from hpc.data.shuffle import gather

#: Rows of fewer bytes are made in the task's own memory, which costs less than to prepare for them.
LEAST_BYTES = 256 << 10
#: Of more tables the columns are brought together before, which costs less than to look at each of them.
MOST_SPANS = 1000


class Run(NamedTuple):
    """Rows that follow each other: those of spans (table, first row, row behind the last), one span after the other.

    rows: which of these rows, in what order; None: all, as they lie."""

    spans: list[tuple[int, int, int]]
    rows: np.ndarray | None = None

    @property
    def taken(self) -> int:
        """The number of rows."""
        return self.length if self.rows is None else len(self.rows)

    @property
    def length(self) -> int:
        """The number of rows of the spans."""
        return sum(stop - start for _, start, stop in self.spans)


def moved(sources: Sequence[pa.Table], runs: Sequence[Run]) -> pa.Table | spi.PlacedTable:
    """The rows of all runs, one run after the other, as a table or as one that is made when it is stored."""
    schema, count = sources[0].schema, sum(run.taken for run in runs)
    width = sum(gather.fixed_width(kind) for kind in schema.types)
    if count * width < LEAST_BYTES or max(len(run.spans) for run in runs) > MOST_SPANS or not _can_be_placed(sources):
        return _taken(sources, runs)
    placed = spi.PlacedTable()
    rest: _Rest | None = None
    columns = []
    for number, kind in enumerate(schema.types):
        views = _views(sources, number)
        if views is None:
            rest = rest or _Rest(runs)
            columns.append(rest.column(sources, number))
            if isinstance(columns[-1], pa.ChunkedArray):
                return _taken(sources, runs)
        else:
            buffer = placed.buffer(count * gather.fixed_width(kind), _Filling(views, runs))
            columns.append(gather.from_buffer(buffer, count, kind))
    placed.table = pa.Table.from_arrays(columns, schema=schema)
    return placed


def in_one_piece(table: pa.Table) -> pa.Table | spi.PlacedTable:
    """The same rows, with one chunk for each column, as a table or as one that is made when it is stored."""
    if all(column.num_chunks == 1 for column in table.columns) or table.nbytes < LEAST_BYTES:
        return in_one(table)
    sources = [pa.Table.from_batches([batch]) for batch in table.to_batches()]
    made = moved(sources, [Run([(at, 0, one.num_rows) for at, one in enumerate(sources)])])
    return in_one(made) if isinstance(made, pa.Table) else made


def _can_be_placed(sources: Sequence[pa.Table]) -> bool:
    """Whether all have the same columns, of types that a stream knows, each in one piece."""
    schema = sources[0].schema
    alike = all(one.schema.equals(schema) for one in sources)
    return (
        alike
        and all(column.num_chunks == 1 for one in sources for column in one.columns if one.num_rows)
        and pa.ipc.read_schema(schema.serialize()) == schema
    )


def _views(sources: Sequence[pa.Table], number: int) -> list[np.ndarray] | None:
    """The values of a column of each table, if they are of fixed width and none is null."""
    found = []
    width = gather.fixed_width(sources[0].schema.types[number])
    if not width:
        return None
    for one in sources:
        if not one.num_rows:
            found.append(np.zeros(0, gather.item(width)))
            continue
        array = one.column(number).chunk(0)
        seen = None if array.null_count else gather.values(array)
        if seen is None:
            return None
        found.append(seen)
    return found


class _Filling:
    """Moves the values of one column to their place."""

    def __init__(self, views: list[np.ndarray], runs: Sequence[Run]) -> None:
        self._views, self._runs = views, runs

    def __call__(self, place: memoryview) -> None:
        kind = next(view.dtype for view in self._views if len(view))
        out, at = np.frombuffer(place, kind), 0
        most = max((run.length for run in self._runs if run.rows is not None and len(run.spans) > 1), default=0)
        together = np.empty(most, kind)
        for run in self._runs:
            parts = [self._views[source][start:stop] for source, start, stop in run.spans]
            to = out[at : at + run.taken]
            at += run.taken
            if run.rows is None:
                np.concatenate(parts, out=to)
                continue
            if len(parts) > 1:
                parts = [np.concatenate(parts, out=together[: run.length])]
            np.take(parts[0], run.rows, out=to, mode="clip")


class _Rest:
    """Columns that are made in the task's own memory, by the numbers of their rows among those of all spans."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._spans = [span for run in runs for span in run.spans]
        starts = accumulate((run.length for run in runs), initial=0)
        rows = [start + (np.arange(run.length) if run.rows is None else run.rows) for start, run in zip(starts, runs)]
        self.rows = None if all(run.rows is None for run in runs) else np.concatenate(rows)
        self._shared: list[pa.Array] = []

    def column(self, sources: Sequence[pa.Table], number: int) -> Any:
        """One column."""
        chunks = [
            chunk
            for source, start, stop in self._spans
            for chunk in sources[source].column(number).slice(start, stop - start).chunks
        ]
        column = pa.chunked_array(chunks, sources[0].schema.types[number])
        return gather.whole(column) if self.rows is None else gather.take_column(column, self.rows, self._shared)


def _taken(sources: Sequence[pa.Table], runs: Sequence[Run]) -> pa.Table:
    tables = [sources[source].slice(start, stop - start) for run in runs for source, start, stop in run.spans]
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
