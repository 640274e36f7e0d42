"""Rows of a table by their indices: each column once, by the fastest way that its type allows.

Columns of fixed width go through numpy, and their nulls as a column of bytes. It is twice as fast as Arrow's take,
which looks at a bitmap for each value. The others go through Arrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from hpc.data.block.views import none_of, taken_of

_LARGE = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
_MOST_BYTES = 2**31 - 1
# Tables of fewer bytes than this are brought together before their rows are cut.
_RUN_BYTES = 8 << 20


def take(table: pa.Table, indices: np.ndarray) -> pa.Table:
    """The rows of a table at these indices (int64, within bounds), in their order."""
    if not table.num_columns:
        return table.slice(0, len(indices)) if len(indices) <= table.num_rows else _empty_rows(len(indices))
    shared: list[pa.Array] = []
    return pa.Table.from_arrays([take_column(c, indices, shared) for c in table.columns], schema=table.schema)


def take_few(table: pa.Table, indices: np.ndarray) -> pa.Table | None:
    """The rows of a table of several chunks at these indices, which ascend. They are taken chunk by chunk, and only
    they are brought together. None where that costs more than to bring all together, or is no use."""
    lengths = [len(chunk) for chunk in table.column(0).chunks] if table.num_columns else []
    if len(lengths) < 2 or 2 * len(indices) > table.num_rows:
        return None
    if len(indices) and (indices[0] < 0 or not (indices[1:] >= indices[:-1]).all()):
        return None
    if any([len(chunk) for chunk in column.chunks] != lengths for column in table.columns[1:]):
        return None
    starts = np.cumsum([0, *lengths])
    ends = np.searchsorted(indices, starts)
    chunks = [
        take(table.slice(start, length), indices[first:end] - start)
        for start, length, first, end in zip(starts[:-1].tolist(), lengths, ends[:-1].tolist(), ends[1:].tolist())
        if end > first
    ]
    return combine(pa.concat_tables(chunks)) if chunks else table.slice(0, 0)


def take_column(
    column: pa.ChunkedArray, indices: np.ndarray, shared: list[pa.Array] | None = None
) -> pa.Array | pa.ChunkedArray:
    """The values of one column at these indices. Columns of one call share the Arrow form of the indices."""
    array = whole(column)
    if isinstance(array, pa.Array):
        taken = _take_fixed(array, indices) if fixed_width(array.type) and len(array) else None
        if taken is not None:
            return taken
        if shared is None:
            shared = []
        if not shared:
            shared.append(pa.array(indices))
        return taken_of(array, shared[0])
    return _take_large(array, indices)


def whole(column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A column as one array; or still in chunks, where its bytes are too many for one."""
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.type in _LARGE and column.nbytes > _MOST_BYTES:
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else none_of(column.type)


def runs(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Tables one after the other: large ones as they are, small ones that follow each other as one.

    Tables whose columns differ are all one, so that what they have in common is found."""
    if len(tables) < 2 or any(not table.schema.equals(tables[0].schema) for table in tables):
        return [concat(tables)] if tables else []
    found: list[list[pa.Table]] = []
    size = _RUN_BYTES
    for table in tables:
        if size >= _RUN_BYTES:
            found.append([])
            size = 0
        found[-1].append(table)
        size += table.nbytes
    return [concat(some) for some in found]


def combine(table: pa.Table) -> pa.Table:
    """The table with one chunk per column where that can be."""
    if all(column.num_chunks == 1 for column in table.columns):
        return table
    return pa.Table.from_arrays([whole(column) for column in table.columns], schema=table.schema)


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables one after the other, without a copy; their schemas are promoted where they differ."""
    if len(tables) == 1:
        return tables[0]
    first = tables[0].schema
    if all(table.schema.equals(first) for table in tables):
        return pa.concat_tables(tables)
    from hpc.data.block.promote import concat as promoted

    return promoted(list(tables))


def fixed_width(kind: pa.DataType) -> int:
    """Bytes per value of a type whose values lie side by side in one buffer, else 0."""
    if isinstance(kind, pa.BaseExtensionType):
        return fixed_width(kind.storage_type)
    if pa.types.is_fixed_size_list(kind):
        return fixed_width(kind.value_type) * kind.list_size
    if pa.types.is_boolean(kind) or pa.types.is_dictionary(kind) or pa.types.is_nested(kind):
        return 0
    try:
        return kind.bit_width // 8
    except ValueError:
        return 0


def values(array: pa.Array) -> np.ndarray | None:
    """The values of a fixed-width array as numpy sees them: one item of `fixed_width` bytes each, any where it is null.

    None if it is of lists, and one of them, or a value inside of one, is null.
    """
    width, inner, is_list = fixed_width(array.type), array, False
    while True:
        if isinstance(inner.type, pa.BaseExtensionType):
            inner = inner.storage
        elif pa.types.is_fixed_size_list(inner.type):
            if inner.null_count:
                return None
            inner, is_list = inner.flatten(), True  # only what the offset and the length of the array leave
        else:
            break
    if is_list and inner.null_count:
        return None
    start = inner.offset * fixed_width(inner.type)
    return np.frombuffer(inner.buffers()[-1], item(width), len(array), start)


def all_values(arrays: Sequence[pa.Array | None], kind: pa.DataType) -> list[np.ndarray] | None:
    """The values of arrays of one type, as `values` gives them; none of None. None if one of them has none."""
    width = fixed_width(kind)
    if not width:
        return None
    cell = item(width)
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_fixed_size_list(kind):
        seen = [np.zeros(0, cell) if array is None else values(array) for array in arrays]
        return None if any(one is None for one in seen) else seen  # type: ignore[return-value]
    return [
        np.zeros(0, cell) if array is None
        else np.frombuffer(array.buffers()[-1], cell, len(array), array.offset * width)
        for array in arrays
    ]  # fmt: skip


def valid(array: pa.Array) -> np.ndarray | None:
    """Which values of an array are not null, as one byte each; None: all."""
    if not array.null_count:
        return None
    array = array.storage if isinstance(array.type, pa.BaseExtensionType) else array
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    first, end = array.offset // 8, -(-(array.offset + len(array)) // 8)
    start = array.offset - 8 * first
    return np.unpackbits(bits[first:end], bitorder="little")[start : start + len(array)]


def item(width: int) -> np.dtype:
    """The numpy type of so many bytes."""
    return np.dtype(f"u{width}") if width in (1, 2, 4, 8) else np.dtype(f"V{width}")


def _take_fixed(array: pa.Array, indices: np.ndarray) -> pa.Array | None:
    """None if numpy cannot see the values."""
    seen, known = values(array), valid(array)
    if seen is None:
        return None
    # Arrow's pool has the memory of tables that were freed, and need not have it made zero by the system again.
    taken = pa.allocate_buffer(len(indices) * seen.itemsize)
    np.take(seen, indices, out=np.frombuffer(taken, seen.dtype), mode="clip")
    known = None if known is None else np.take(known, indices, mode="clip")
    return from_buffer(taken, len(indices), array.type, known)


def from_buffer(taken: pa.Buffer, count: int, kind: pa.DataType, known: np.ndarray | None = None) -> pa.Array:
    """An array of so many values of a fixed-width type, which lie side by side in a buffer. known: see `valid`."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, from_buffer(taken, count, kind.storage_type, known))
    if pa.types.is_fixed_size_list(kind):
        items = from_buffer(taken, count * kind.list_size, kind.value_type)
        return pa.FixedSizeListArray.from_arrays(items, type=kind)
    bits = None if known is None else pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.Array.from_buffers(kind, count, [bits, taken])


def _take_large(column: pa.ChunkedArray, indices: np.ndarray) -> pa.ChunkedArray:
    """Rows of strings of more than 2 GiB: taken as large strings, given back in chunks of the type they had."""
    large = pa.concat_arrays(column.cast(_LARGE[column.type]).chunks)
    mean = max(1, column.nbytes // max(1, len(column)))
    step = max(1, _MOST_BYTES // 4 // mean)
    chunks: list[pa.Array] = []
    for start in range(0, len(indices), step):
        chunks += _narrow(large.take(pa.array(indices[start : start + step])), column.type)
    return pa.chunked_array(chunks, column.type)


def _narrow(array: pa.Array, kind: pa.DataType) -> list[pa.Array]:
    """An array of large strings as arrays of the type with 32 bit offsets, halved until each fits."""
    if array.nbytes <= _MOST_BYTES or len(array) <= 1:
        return [array.cast(kind)]
    half = len(array) // 2
    return _narrow(array.slice(0, half), kind) + _narrow(pa.concat_arrays([array.slice(half)]), kind)


def _empty_rows(rows: int) -> pa.Table:
    return pa.table({"": pa.nulls(rows)}).select([])
