"""Blocks as batches for functions of users, and tables of an exact number of rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import objects, promote, tensor, views
from hpc.data.block.bare import NAME, is_bare
from hpc.data.block.flat import to_numpy
from hpc.data.block.nanoseconds import bring_pandas, python_values

FORMATS = ("default", "numpy", "pandas", "pyarrow", "polars", None)


def to_batch(table: pa.Table, batch_format: str | None = "default", zero_copy: bool = True) -> Any:
    """The table in a format that users ask for.

    "default" and "numpy" give a dict of numpy arrays, "pandas" and "polars" a DataFrame, "pyarrow" and None the table.
    zero_copy: arrays may be views of the block, which nobody may write to. Raises ValueError for another format.
    """
    if is_bare(table.schema):
        return _bare_batch(table, batch_format)
    if batch_format in ("default", "numpy"):
        names = table.column_names
        return {name: column_to_numpy(table.column(place), zero_copy) for place, name in enumerate(names)}
    if batch_format in ("pyarrow", None):
        bring_pandas(*table.schema.types)
        return table
    if batch_format == "pandas":
        return to_pandas(table, zero_copy)
    if batch_format == "polars":
        return _to_polars(table)
    raise ValueError(f"batch_format is one of {FORMATS}, not {batch_format!r}")


def _bare_batch(table: pa.Table, batch_format: str | None) -> Any:
    if batch_format in ("default", "numpy"):
        return {}
    return to_pandas(table).drop(columns=table.column_names) if batch_format == "pandas" else table.select([])


def column_to_numpy(column: pa.ChunkedArray, zero_copy: bool = True) -> np.ndarray:
    """A column as an array with one entry for each row: a view of the block, if it has one chunk of plain numbers.

    Missing numbers are nan. With zero_copy=False the array is a copy of its own, which may be written to.
    """
    if isinstance(column.type, pa.BaseExtensionType):
        array = _extension_to_numpy(column)
    else:
        array = to_numpy(views.plain(column))
    return array if zero_copy or array.flags.writeable else array.copy()


def _extension_to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    kind = column.type
    if tensor.is_tensor(kind):
        parts = [tensor.to_numpy(chunk) for chunk in column.chunks]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return tensor.to_numpy(column.combine_chunks())
        if any(part.dtype == object for part in parts):
            cells = [cell for part in parts for cell in part]
            return np.fromiter(cells, dtype=object, count=len(cells))
        return np.concatenate(parts)
    if objects.is_object(kind):
        cells = [cell for chunk in column.chunks for cell in objects.to_cells(chunk)]
        return np.fromiter(cells, dtype=object, count=len(cells))
    return column.cast(kind.storage_type).to_numpy()


def to_pandas(table: pa.Table, zero_copy: bool = True) -> Any:
    """The table as a DataFrame whose columns keep their Arrow types. Tensors and objects are cells of dtype object."""
    import pandas as pd

    plain = [place for place, field in enumerate(table.schema) if not isinstance(field.type, pa.BaseExtensionType)]
    frame = table.select(plain).to_pandas(types_mapper=_pandas_type)
    if len(plain) < table.num_columns:
        columns = {}
        for name, column in zip(table.column_names, table.columns):
            if name in frame:
                columns[name] = frame[name]
            else:
                cells = cells_of(column)
                columns[name] = pd.Series(np.fromiter(cells, dtype=object, count=len(cells)), dtype=object)
        frame = pd.DataFrame(columns)
    return frame if zero_copy else frame.copy()


def _pandas_type(kind: pa.DataType) -> Any:
    import pandas as pd

    return None if pa.types.is_dictionary(kind) or pa.types.is_null(kind) else pd.ArrowDtype(kind)


def _to_polars(table: pa.Table) -> Any:
    import polars as pl

    extended = [field for field in table.schema if isinstance(field.type, pa.BaseExtensionType)]
    frame: Any = pl.from_arrow(table.drop_columns([field.name for field in extended]))
    for field in extended:
        array = column_to_numpy(table.column(field.name))
        series = pl.Series(field.name, list(array) if array.dtype == object else array)
        frame = frame.insert_column(table.schema.get_field_index(field.name), series)
    return frame


def cells_of(column: pa.ChunkedArray) -> list[Any]:
    """The cells of a column as Python values: tensors are numpy arrays, objects themselves."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        if tensor.is_tensor(kind):
            return [cell for chunk in column.chunks for cell in tensor.to_cells(chunk)]
        if objects.is_object(kind):
            return [cell for chunk in column.chunks for cell in objects.to_cells(chunk)]
        return python_values(column.cast(kind.storage_type))
    if not column.null_count and (pa.types.is_integer(kind) or pa.types.is_float64(kind)):
        found: list[Any] = to_numpy(column).tolist()
        return found
    return python_values(column)


def rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows as dicts of Python values."""
    names = table.column_names
    if not names or names == [NAME]:
        return iter([{} for _ in range(table.num_rows)])
    columns = [cells_of(column) for column in table.columns]
    return (dict(zip(names, cells)) for cells in zip(*columns))


class Batcher:
    """Tables in, tables of exactly `batch_size` rows out; the last may be shorter.

    The rows keep their order. A batch that lies in one table is a view of it. Only the rows of a batch that lies in
    several tables are put together.
    """

    def __init__(self, batch_size: int | None, drop_last: bool = False) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be positive or None, not {batch_size}")
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.held: deque[pa.Table] = deque()
        self.rows = 0

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        """The batches that are full with this table."""
        size = self.batch_size
        if size is None:
            if table.num_rows:
                yield table
            return
        count, at = table.num_rows, 0
        if self.rows:
            at = min(size - self.rows, count)
            self.held.append(table.slice(0, at))
            self.rows += at
            if self.rows < size:
                return
            yield self._together()
        while at + size <= count:
            yield table if size == count else table.slice(at, size)
            at += size
        if at < count:
            self.held.append(table.slice(at))
            self.rows = count - at

    def flush(self) -> Iterator[pa.Table]:
        """What is left: a shorter batch, or none."""
        if self.rows and not self.drop_last:
            yield self._together()
        self.held.clear()
        self.rows = 0

    def _together(self) -> pa.Table:
        whole = promote.concat(list(self.held))
        self.held.clear()
        self.rows = 0
        return whole

    def batches(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """All batches of these tables."""
        for table in tables:
            yield from self.add(table)
        yield from self.flush()
