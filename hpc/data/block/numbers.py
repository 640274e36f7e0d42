"""Numbers between numpy and Arrow without pandas. Where pyarrow gives an array of numpy, or gets one, it imports pandas
first if that is installed: 0.2 s of CPU time in each process that reads its first batch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_DTYPES = {
    pa.from_numpy_dtype(name): np.dtype(name)
    for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
}  # fmt: skip
_KINDS = {dtype: kind for kind, dtype in _DTYPES.items()}


def row_numbers(rows: np.ndarray) -> pa.Array:
    """The numbers of rows that are to be taken, without a copy where they are of 64 bits."""
    whole = np.ascontiguousarray(rows, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(whole), [None, pa.py_buffer(whole)])


def from_numpy(values: np.ndarray) -> pa.Array | None:
    """The column of an array of plain numbers, which is not copied; None for any other array."""
    kind = _KINDS.get(values.dtype) if values.ndim == 1 and len(values) and values.flags.c_contiguous else None
    return None if kind is None else pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def to_numpy(array: pa.Array) -> np.ndarray:
    """The values of an array: a view that is not to be written to, where they are plain numbers and none is missing."""
    dtype = _DTYPES.get(array.type)
    if dtype is None or array.null_count or not len(array):
        return array.to_numpy(zero_copy_only=False)
    view = np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)
    view.flags.writeable = False
    return view
