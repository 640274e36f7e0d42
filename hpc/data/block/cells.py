"""Few rows as Python values: what a function on rows makes of a row or two is no table before somebody needs one.

A table of one row takes 30 us to make, measure and pickle, its cells take 3. The table that is made in the end, its
schema and its bytes are those that Arrow makes of the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

#: More rows than this are a table at once. Pieces of rows are no smaller, so that both ways make the same tables.
FEW = 15
#: The types that a column may have here: all of its cells are of one, and none is None.
_KINDS: dict[type, pa.DataType] = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
_LETTERS = {int: "i", float: "f", str: "s", bool: "b"}
_OF_LETTER = {letter: _KINDS[kind] for kind, letter in _LETTERS.items()}
_DTYPES: dict[str, Any] = {"i": np.int64, "f": np.float64, "s": object, "b": np.bool_}
_OF_DTYPE: dict[Any, type] = {
    np.dtype(np.int64): int, np.dtype(np.float64): float, np.dtype(np.bool_): bool, np.dtype(object): str,
}  # fmt: skip
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


class Cells:
    """Some rows: the names of their columns, a letter for the type of each, and its cells. Pickled, they are a table
    where they arrive."""

    __slots__ = ("columns", "kinds", "names", "nbytes", "num_rows")

    def __init__(self, names: tuple[str, ...], kinds: str, columns: list[list[Any]], nbytes: int) -> None:
        self.names = names
        self.kinds = kinds
        self.columns = columns
        self.num_rows = len(columns[0])
        self.nbytes = nbytes

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return table_of, (self.names, self.kinds, self.columns)

    @property
    def schema(self) -> bytes:
        """The serialized schema of the table."""
        return serialized(self.names, self.kinds)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows as dicts."""
        names = self.names
        return (dict(zip(names, cells)) for cells in zip(*self.columns))

    def table(self) -> pa.Table:
        """The rows as a table."""
        return table_of(self.names, self.kinds, self.columns)

    def arrays(self, zero_copy: bool) -> dict[str, np.ndarray]:
        """The columns as a batch has them: with ``zero_copy`` numbers are not to be written to, as those of a block."""
        found = {}
        for name, letter, cells in zip(self.names, self.kinds, self.columns):
            array = found[name] = np.array(cells, _DTYPES[letter])
            if zero_copy and letter in "if":
                array.flags.writeable = False
        return found


def table_of(names: tuple[str, ...], kinds: str, columns: Sequence[Sequence[Any]]) -> pa.Table:
    """The table of some cells."""
    schema = schema_of(names, kinds)
    arrays = [pa.array(cells, kind) for cells, kind in zip(columns, schema.types)]
    return pa.Table.from_arrays(arrays, schema=schema)


@lru_cache(256)
def schema_of(names: tuple[str, ...], kinds: str) -> pa.Schema:
    """The schema of columns of these names and types."""
    return pa.schema([pa.field(name, _OF_LETTER[letter]) for name, letter in zip(names, kinds)])


@lru_cache(256)
def serialized(names: tuple[str, ...], kinds: str) -> bytes:
    """The same, serialized."""
    return schema_of(names, kinds).serialize().to_pybytes()


def of_rows(rows: list[Any]) -> Cells | None:
    """Rows that a function has returned. None for many, and where a cell is no plain number or text."""
    if not 0 < len(rows) <= FEW or type(rows[0]) is not dict or not rows[0]:
        return None
    names = tuple(rows[0])
    kinds, columns, total = "", [], 0
    for name in names:
        try:
            cells = [row[name] for row in rows]
        except (KeyError, TypeError, IndexError):
            return None
        kind = type(cells[0])
        size = _size(kind, cells)
        if size is None or type(name) is not str:
            return None
        kinds += _LETTERS[kind]
        total += size
        columns.append(cells)
    if len(rows) > 1 and any(type(row) is not dict or len(row) != len(names) for row in rows):
        return None
    return Cells(names, kinds, columns, total)


def of_arrays(batch: Any) -> Cells | None:
    """A batch that a function has returned. None for many rows, and for what is no dict of flat arrays of plain numbers
    or texts."""
    if type(batch) is not dict or not batch:
        return None
    kinds, columns, total, count = "", [], 0, -1
    for name, values in batch.items():
        kind = _OF_DTYPE.get(values.dtype) if type(values) is np.ndarray and values.ndim == 1 else None
        count = len(values) if kind is not None and count < 0 else count
        if kind is None or len(values) != count or not 0 < count <= FEW or type(name) is not str:
            return None
        cells = values.tolist()
        size = _size(kind, cells)
        if size is None or (kind is str and any(type(cell) is not str for cell in cells)):
            return None
        kinds += _LETTERS[kind]
        total += size
        columns.append(cells)
    return Cells(tuple(batch), kinds, columns, total)


def _size(kind: type, cells: list[Any]) -> int | None:
    """The bytes of a column's buffers in Arrow; None where these are no plain cells of one type."""
    if kind not in _KINDS or (len(cells) > 1 and any(type(cell) is not kind for cell in cells)):
        return None
    if kind is str:
        try:
            return 4 * len(cells) + sum(len(c) if c.isascii() else len(c.encode()) for c in cells)
        except UnicodeEncodeError:
            return None
    if kind is bool:
        return (len(cells) + 7) // 8
    if kind is int and not (min(cells) >= _LEAST and max(cells) <= _MOST):
        return None
    return 8 * len(cells)
