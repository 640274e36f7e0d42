"""The order of rows by keys: nulls behind all, NaN before them, whether ascending or descending. Equal rows stay as
they were.

Each key becomes numbers of the same order, which numpy sorts several times as fast as Arrow and Polars sort a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block.codes import whole
from hpc.data.block.flat import to_numpy
from hpc.data.block.views import plain
from hpc.data.shuffle import gather
from hpc.data.shuffle.states import no_column

_LOW = np.uint64(0xFFFFFFFF)
# Rows from which it is told whether a column has few different values.
_GLANCE = 1 << 16


@dataclass(frozen=True)
class SortKey:
    """One column of a sort."""

    column: str
    descending: bool = False


def sort(table: pa.Table, keys: Sequence[SortKey]) -> pa.Table:
    """The rows in the order of the keys."""
    return gather.take(table, order(table, keys))


def order(table: pa.Table, keys: Sequence[SortKey]) -> np.ndarray:
    """The row numbers in the order of the keys. Raises ValueError for a missing column, TypeError for one without an
    order."""
    rows: np.ndarray | None = None
    for key in reversed(keys):
        numbers, last = ranked(column_of(table, key.column), key.column)
        if key.descending:
            numbers = reverse(numbers)
        if rows is None:
            rows = _ordered(numbers, last)
        else:
            rows = rows[_ordered(numbers[rows], None if last is None else last[rows])]
    return np.arange(table.num_rows) if rows is None else rows


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise ValueError(no_column(name, table.column_names))
    return table.column(name)


def reverse(numbers: np.ndarray) -> np.ndarray:
    return -numbers if numbers.dtype.kind == "f" else ~numbers


def ranked(column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Numbers in the order of the values, and for each whether it is behind all: 1 for NaN, 2 for null (None: none)."""
    array = plain(whole(column))
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_nested(kind):
        raise TypeError(f"rows cannot be sorted by column {name!r}: values of type {kind} have no order")
    last = None
    if array.null_count:
        last = to_numpy(pc.is_null(array)).astype(np.uint8) * np.uint8(2)
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.int8), last
    if pa.types.is_floating(kind):
        numbers: np.ndarray = _raw(array, kind.to_pandas_dtype())
        nans = np.isnan(numbers)
        if nans.any():
            last = np.maximum(last, nans) if last is not None else nans.astype(np.uint8)
        return numbers, last
    if pa.types.is_boolean(kind):
        return to_numpy(array.cast(pa.uint8()).fill_null(0)), last
    if pa.types.is_integer(kind):
        return _raw(array, kind.to_pandas_dtype()), last
    if pa.types.is_temporal(kind) and kind.bit_width in (32, 64):
        return _raw(array, np.int32 if kind.bit_width == 32 else np.int64), last
    return _ranks(array), last


def _raw(array: pa.Array, kind: type) -> np.ndarray:
    """The numbers in the buffer of an array; any where it is null."""
    if not len(array):
        return np.zeros(0, kind)
    numbers: np.ndarray = np.frombuffer(array.buffers()[1], kind, len(array), array.offset * np.dtype(kind).itemsize)
    return numbers.astype(np.float32) if kind is np.float16 else numbers


def _ranks(array: pa.Array) -> np.ndarray:
    """The rank of each value among all: of texts, decimals and other values that are no plain numbers."""
    if not pa.types.is_dictionary(array.type) and len(array) > _GLANCE:
        glance = array.slice(0, _GLANCE)
        if len(glance.unique()) * 4 < len(glance):
            array = array.dictionary_encode()
    if pa.types.is_dictionary(array.type):
        ranks = np.append(_ranks(array.dictionary), 0)
        return ranks[to_numpy(pc.fill_null(array.indices.cast(pa.int64()), len(ranks) - 1))]
    return to_numpy(pc.rank(array, "ascending", tiebreaker="dense")).astype(np.int64)


def _ordered(numbers: np.ndarray, last: np.ndarray | None) -> np.ndarray:
    """Row numbers by these numbers, those that are behind all at the end in their order."""
    if last is None:
        return stable_argsort(numbers)
    front = np.flatnonzero(last == 0)
    return np.concatenate([front[stable_argsort(numbers[front])], np.flatnonzero(last == 1), np.flatnonzero(last == 2)])


def stable_argsort(numbers: np.ndarray) -> np.ndarray:
    """As numpy's stable argsort; four times as fast for numbers of 32 and 64 bits.

    numpy's quicksort is vectorized and not stable: rows of equal numbers are sorted once more, by row.
    """
    if numbers.dtype.itemsize <= 2 or len(numbers) >= 2**32:
        return np.argsort(numbers, kind="stable")
    rows = np.argsort(numbers)
    ordered = numbers[rows]
    new = ordered[1:] != ordered[:-1]
    if new.all():
        return rows
    words = np.zeros(len(rows), np.uint64)
    np.cumsum(new, out=words[1:])
    words <<= np.uint64(32)
    words |= rows.view(np.uint64)
    words.sort()
    words &= _LOW
    return words.view(np.int64)
