"""Columns between Arrow and numpy. Arrow's own way imports pandas first: 0.2 s of CPU time in each process."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

#: By the id of a type: that of numpy whose values lie in memory as Arrow's do.
PLAIN = {
    pa.from_numpy_dtype(name).id: np.dtype(name)
    for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
}
_BOOL = pa.bool_().id
_KINDS = {dtype: pa.from_numpy_dtype(dtype) for dtype in PLAIN.values()}


def to_numpy(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The values as `to_numpy(zero_copy_only=False)` gives them: views of numbers that have no nulls."""
    if isinstance(values, pa.ChunkedArray):
        if values.num_chunks == 1:
            return to_numpy(values.chunk(0))
        if values.null_count or values.type.id not in PLAIN:
            return values.to_numpy()
        chunks = [to_numpy(chunk) for chunk in values.chunks]
        return np.concatenate(chunks) if chunks else np.empty(0, PLAIN[values.type.id])
    kind = values.type.id
    dtype = PLAIN.get(kind)
    if values.null_count or (dtype is None and kind != _BOOL):
        return values.to_numpy(zero_copy_only=False)
    data, count, first = values.buffers()[1], len(values), values.offset
    if data is None or not count:
        return np.empty(0, np.bool_ if dtype is None else dtype)
    if dtype is not None:
        return np.frombuffer(memoryview(data).toreadonly(), dtype, count, first * dtype.itemsize)
    start, end = first // 8, -(-(first + count) // 8)
    bits = np.unpackbits(np.frombuffer(data, np.uint8, end - start, start), bitorder="little")
    return bits[first - 8 * start :][:count].view(np.bool_)


def distinct(values: np.ndarray) -> np.ndarray:
    """Each of some integers once, in ascending order. `np.unique` imports masked arrays: 25 ms of each process."""
    ordered = np.sort(values)
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_first]


def row_numbers(rows: np.ndarray) -> pa.Array:
    """The numbers of rows that are to be taken, without a copy where they are of 64 bits."""
    whole = np.ascontiguousarray(rows, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(whole), [None, pa.py_buffer(whole)])


def from_numpy(values: np.ndarray) -> pa.Array | None:
    """The column of an array of plain numbers, which is not copied; None for any other array."""
    kind = _KINDS.get(values.dtype) if values.ndim == 1 and len(values) and values.flags.c_contiguous else None
    return None if kind is None else pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
