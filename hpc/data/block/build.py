"""From values that functions of users return, or that users give, to blocks.

Every value becomes a column of the type that Arrow infers. Numpy arrays as cells are tensors. What has no type in Arrow
is kept as Python objects.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import flat, objects, promote, tensor
from hpc.data.block.bare import bare

#: What Arrow raises for Python values that have no common type.
NO_TYPE = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError)
#: Most cells are of these.
_SCALARS = frozenset((int, float, str, bytes, bool, type(None)))
MAY_RETURN = "a dict of arrays or lists, a pandas or polars DataFrame, or a pyarrow.Table"


def table(batch: Any, where: str) -> pa.Table:
    """The block of a batch: a dict of arrays or lists, a DataFrame of pandas or polars, a pyarrow Table or RecordBatch.

    where: the function that returned it, for errors. Raises ValueError for anything else, and for columns of different
    lengths; it names the function, the column and the types.
    """
    if isinstance(batch, pa.Table):
        return _checked(batch, where)
    if isinstance(batch, pa.RecordBatch):
        return _checked(pa.Table.from_batches([batch]), where)
    if isinstance(batch, Mapping):
        return _from_columns(batch, where)
    if is_a(batch, "pandas", "DataFrame"):
        return _from_pandas(batch, where)
    if is_a(batch, "polars", "DataFrame"):
        return batch.to_arrow()
    if isinstance(batch, (np.ndarray, list)):
        kind = "an array" if isinstance(batch, np.ndarray) else "a list"
        raise ValueError(f"{where} returned {kind}: return it as a named column, as in {{'data': result}}")
    raise ValueError(f"{where} returned {_kind(batch)}: it must return {MAY_RETURN}")


def from_rows(rows: Iterable[Mapping[str, Any]], where: str = "rows") -> pa.Table:
    """The block of rows, each a dict. Columns stand in the order in which they come up; a missing cell is null.

    Raises ValueError for a row that is no dict.
    """
    rows = rows if isinstance(rows, list) else list(rows)
    if not rows:
        return pa.table({})
    names, columns = _cells(rows, where)
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{where} gave a column named {name!r}: names of columns are strings")
    if not names:
        return bare(len(rows))
    return pa.Table.from_arrays([column(cells) for cells in columns], names=names)


def _cells(rows: list[Any], where: str) -> tuple[list[str], list[list[Any]]]:
    """The names of columns, and the cells of each."""
    if type(rows[0]) is dict or isinstance(rows[0], Mapping):
        names = list(rows[0])
        try:
            columns = [[row[name] for row in rows] for name in names]
            # Rows that have all these names and no other have as many cells in all.
            if sum(map(len, rows)) == len(names) * len(rows):
                return names, columns
        except (KeyError, TypeError, IndexError):
            pass
    found: dict[str, None] = {}
    for row in rows:
        if not isinstance(row, Mapping):
            raise ValueError(f"{where} gave a row that is {_kind(row)}: each row must be a dict")
        found.update(dict.fromkeys(row))
    return list(found), [[row.get(name) for row in rows] for name in found]


def from_items(items: Sequence[Any]) -> pa.Table:
    """The block of any items: dicts are rows; any other item is the cell `item` of its row."""
    return from_rows([item if isinstance(item, Mapping) else {"item": item} for item in items])


def column(cells: Sequence[Any]) -> pa.Array:
    """The column of Python values."""
    first = next((cell for cell in cells if cell is not None), None)
    if _is_array(first):
        return _tensors(cells)
    try:
        return pa.array(cells, from_pandas=False)
    except NO_TYPE:
        if any(_is_array(cell) for cell in cells):
            return _tensors(cells)
        return objects.from_cells(cells)


def array_column(values: np.ndarray) -> pa.Array:
    """The column of a numpy array: one cell for each step along its first axis."""
    if values.dtype == object:
        if values.ndim > 1:
            return objects.from_cells(list(values))
        return _object_column(values)
    if values.ndim > 1:
        try:
            return tensor.from_numpy(values)
        except NO_TYPE:
            return objects.from_cells(list(values))
    if values.dtype.kind == "S":
        return pa.array(values.tolist(), pa.binary())
    if (plain := flat.from_numpy(values)) is not None:
        return plain
    try:
        return pa.array(values)
    except NO_TYPE:
        return objects.from_cells(values.tolist())


def _object_column(values: np.ndarray) -> pa.Array:
    """Of an array of Python objects. pandas and numpy say nan for a missing string; that is a null."""
    first = next((cell for cell in values if cell is not None), None)
    if _is_array(first):
        return _tensors(list(values))
    try:
        return pa.array(values, from_pandas=not isinstance(first, float))
    except NO_TYPE:
        return column(values.tolist())


def _tensors(cells: Sequence[Any]) -> pa.Array:
    """Of cells that are arrays of numpy, or of a library that gives numpy arrays."""
    arrays = [None if cell is None else np.asarray(cell) if _is_array(cell) else cell for cell in cells]
    if any(cell is not None and not isinstance(cell, np.ndarray) for cell in arrays):
        return objects.from_cells(cells)
    if all(cell is None or cell.ndim == 0 for cell in arrays):
        return column([None if cell is None else cell[()] for cell in arrays])
    try:
        return tensor.from_cells(arrays)
    except (TypeError, *NO_TYPE):
        pass
    # Flat arrays of texts or other objects are lists.
    if all(cell is None or cell.ndim == 1 for cell in arrays):
        try:
            return pa.array([None if cell is None else cell.tolist() for cell in arrays])
        except NO_TYPE:
            pass
    return objects.from_cells(cells)


def _from_columns(batch: Mapping[Any, Any], where: str) -> pa.Table:
    columns, length, longest = [], None, ""
    for name, values, references in _counted(batch):
        if not isinstance(name, str):
            raise ValueError(f"{where} returned a column named {name!r}: names of columns are strings")
        if isinstance(values, np.ndarray) and _shared(values, references):
            values = values.copy()
        made = _column_of(name, values, where)
        if length is not None and len(made) != length:
            raise ValueError(
                f"{where} returned columns of different lengths: {longest!r} has {length}, {name!r} has {len(made)}"
            )
        length, longest = len(made), longest or name
        columns.append(made)
    return pa.Table.from_arrays(columns, names=list(batch))


def _counted(batch: Mapping[Any, Any]) -> Iterator[tuple[Any, Any, int]]:
    """The columns, each with the number of references to its values."""
    for name, values in batch.items():
        yield name, values, sys.getrefcount(values)


def _owner_references(array: np.ndarray) -> int:
    owner = array.base
    return sys.getrefcount(owner)


#: The references to an array that is in a dict alone, and to one of which there is one view alone.
ALONE = next(_counted({"x": np.empty(1)}))[2]
OWNER_ALONE = _owner_references(np.empty((1, 2)).reshape(2))


def _shared(array: np.ndarray, references: int) -> bool:
    """Whether somebody else may write to the memory of an array, as a function does that fills one buffer again.

    The column of such an array has to be a copy: the rows of a block are there until it is stored.
    """
    if array.dtype.kind not in "fiumM":
        return False
    if array.base is None:
        return array.flags.writeable and references > ALONE
    if isinstance(array.base, np.ndarray):
        return array.base.flags.writeable and (references > ALONE or _owner_references(array) > OWNER_ALONE)
    return bool(array.flags.writeable)


def _column_of(name: str, values: Any, where: str) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, np.ndarray):
        if values.ndim == 0:
            raise ValueError(f"{where} returned the column {name!r} as an array of no dimension: it has no rows")
        return array_column(values)
    if isinstance(values, list):
        return column(values)
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if is_a(values, "pandas", "Series") or is_a(values, "pandas", "Index"):
        return _pandas_column(values)
    if is_a(values, "polars", "Series"):
        return values.to_arrow()
    if _is_array(values):
        return array_column(np.array(values))
    raise ValueError(f"{where} returned the column {name!r} as {_kind(values)}: make it a numpy array or a list")


def _from_pandas(frame: Any, where: str) -> pa.Table:
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise ValueError(f"{where} returned a DataFrame with two columns of one name: {names}")
    columns = [_pandas_column(frame.iloc[:, place]) for place in range(len(names))]
    return pa.Table.from_arrays(columns, names=names) if names else bare(len(frame))


def _pandas_column(series: Any) -> pa.Array | pa.ChunkedArray:
    if series.dtype == object:
        return _object_column(series.to_numpy())
    return promote.wide(pa.array(series, from_pandas=True))


def _checked(result: pa.Table, where: str) -> pa.Table:
    names = result.column_names
    if not names:
        return bare(result.num_rows)
    if len(set(names)) < len(names):
        raise ValueError(f"{where} returned a table with two columns of one name: {names}")
    return result


def _is_array(value: Any) -> bool:
    """Whether it is an array of numpy, or one of torch, jax or tensorflow that gives a numpy array."""
    if type(value) in _SCALARS:
        return False
    if isinstance(value, np.ndarray):
        return True
    module = type(value).__module__.partition(".")[0]
    return module in ("torch", "jax", "jaxlib", "tensorflow") and hasattr(value, "__array__")


def is_a(value: Any, module: str, name: str) -> bool:
    """Whether it is of a class of a library, which need not be installed."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _kind(value: Any) -> str:
    return (
        "None" if value is None else f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
    )
