"""Blocks as numpy arrays that are views of them, made once for each block and then cut into batches.

A cut of an array costs a tenth of a cut of an Arrow table, so that small batches cost little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import promote, tensor
from hpc.data.block.bare import names
from hpc.data.block.batch import column_to_numpy, to_batch
from hpc.data.block.flat import to_numpy


class Views:
    """A block whose columns have one chunk each, with a view of each column that is plain numbers without nulls.

    arrays: the views by name. `slow` are the names of all other columns.
    """

    __slots__ = ("arrays", "rows", "slow", "table")

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.rows: int = table.num_rows
        self.arrays: dict[str, np.ndarray] = {}
        self.slow: list[str] = []
        for name in names(table.schema):
            array = view(table.column(name).chunk(0))
            if array is None:
                self.slow.append(name)
            else:
                self.arrays[name] = array

    def cut(self, start: int, stop: int) -> dict[str, Any]:
        """The batch of some rows."""
        if not self.slow:
            return {name: array[start:stop] for name, array in self.arrays.items()}
        batch: dict[str, Any] = {}
        part = self.table.slice(start, stop - start)
        for name in part.column_names:
            array = self.arrays.get(name)
            batch[name] = column_to_numpy(part.column(name)) if array is None else array[start:stop]
        return batch


def view(array: pa.Array) -> np.ndarray | None:
    """The numpy array of an Arrow array of plain numbers without nulls: mostly a view. None for any other."""
    kind = array.type
    if array.null_count:
        return None
    if tensor.is_fixed(kind):
        kind = kind.value_type
        if pa.types.is_primitive(kind):
            return tensor.to_numpy(array)
        return None
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return to_numpy(array)
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return to_numpy(array)
    return None


def pieces(tables: Iterator[pa.Table]) -> Iterator[Views]:
    """The views of tables, one for each run of rows in which all columns have one chunk."""
    for table in tables:
        if not table.num_rows:
            continue
        if all(column.num_chunks == 1 for column in table.columns):
            yield Views(table)
        else:
            for batch in table.to_batches():
                if batch.num_rows:
                    yield Views(pa.Table.from_batches([batch]))


Part = tuple[Views, int, int]


def join(parts: Sequence[Part]) -> dict[str, Any]:
    """The batch of rows that lie in several blocks, put together column by column."""
    first = parts[0][0]
    if len(parts) == 1:
        return first.cut(parts[0][1], parts[0][2])
    if not all(one.table.schema.equals(first.table.schema) for one, _, _ in parts[1:]):
        tables = [one.table.slice(start, stop - start) for one, start, stop in parts]
        return to_batch(promote.concat(tables))
    batch: dict[str, Any] = {}
    for name in names(first.table.schema):
        if all(name in one.arrays for one, _, _ in parts):
            batch[name] = np.concatenate([one.arrays[name][start:stop] for one, start, stop in parts])
        else:
            chunks = [one.table.column(name).slice(start, stop - start).chunk(0) for one, start, stop in parts]
            batch[name] = column_to_numpy(pa.chunked_array(chunks))
    return batch


def numpy_batches(tables: Iterator[pa.Table], batch_size: int, drop_last: bool) -> Iterator[dict[str, Any]]:
    """Batches of exactly so many rows as dicts of arrays; only the last may be shorter."""
    held: list[Part] = []
    rows = 0
    for views in pieces(tables):
        count, at = views.rows, 0
        if held:
            at = min(batch_size - rows, count)
            held.append((views, 0, at))
            rows += at
            if rows < batch_size:
                continue
            yield join(held)
            held, rows = [], 0
        while at + batch_size <= count:
            yield views.cut(at, at + batch_size)
            at += batch_size
        if at < count:
            held, rows = [(views, at, count)], count - at
    if held and not drop_last:
        yield join(held)
