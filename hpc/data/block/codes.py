"""Values as numbers: equal values of a column have one number. Groups and partitions are told apart by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block.flat import to_numpy
from hpc.data.block.nanoseconds import python_values
from hpc.data.block.views import none_of, plain


def codes(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """A number for each value, in the order of first appearance, and how many there are. Null is a value."""
    array = whole(column)
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_floating(array.type):
        array = plain_floats(array)
    if pa.types.is_nested(array.type):
        return _codes_of_objects(array)
    if pa.types.is_dictionary(array.type):
        return codes(plain(array).dictionary_decode())
    try:
        encoded = array.dictionary_encode(null_encoding="encode")
    except pa.ArrowNotImplementedError:
        return _codes_of_objects(array)
    return to_numpy(encoded.indices).astype(np.int64), len(encoded.dictionary)


def codes_of_rows(columns: Sequence[pa.Array | pa.ChunkedArray]) -> tuple[np.ndarray, int]:
    """As `codes`, of the rows of several columns."""
    ids, count = codes(columns[0])
    for column in columns[1:]:
        more, others = codes(column)
        ids, count = codes(pa.array(ids * others + more))
    return ids, count


def _codes_of_objects(array: pa.Array) -> tuple[np.ndarray, int]:
    """As `codes`, of lists and structs, which Arrow does not encode."""
    seen: dict[Any, int] = {}
    ids = np.fromiter((seen.setdefault(hashable(v), len(seen)) for v in python_values(array)), np.int64, len(array))
    return ids, len(seen)


def hashable(value: Any) -> Any:
    """A value that is equal to another where these are equal; all NaN are."""
    if isinstance(value, dict):
        return ("struct", *((name, hashable(item)) for name, item in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(hashable(item) for item in value)
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes())
    if isinstance(value, float) and value != value:
        return "nan", None
    return value


def plain_floats(array: pa.Array) -> pa.Array:
    """All NaN with one pattern of bits, and 0.0 for -0.0: as groups see them."""
    if array.null_count == len(array):
        return array
    if pa.types.is_float16(array.type):
        return plain_floats(array.cast(pa.float32())).cast(array.type)  # Arrow does not add half floats.
    positive = pc.add(array, pa.scalar(0.0, array.type))
    nans = pc.is_nan(positive)
    return pc.if_else(nans, pa.scalar(float("nan"), array.type), positive) if pc.any(nans).as_py() else positive


def first_rows(ids: np.ndarray, count: int) -> np.ndarray:
    """The first row of each group."""
    first = np.zeros(count, np.int64)
    first[ids[::-1]] = np.arange(len(ids) - 1, -1, -1)
    return first if len(ids) else first[:0]


def stable_order(ids: np.ndarray, count: int) -> np.ndarray:
    """The rows sorted by a number below `count`, those of one number in their order: by radix, in linear time."""
    if count <= 2**16:
        return np.argsort(ids.astype(np.uint8 if count <= 2**8 else np.uint16), kind="stable")
    if count > 2**32:
        return np.argsort(ids, kind="stable")
    low = np.argsort((ids & 0xFFFF).astype(np.uint16), kind="stable")
    return low[np.argsort((ids >> 16).astype(np.uint16)[low], kind="stable")]


def whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array. Raises ArrowInvalid for strings of more than 2 GiB."""
    if isinstance(column, pa.Array):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else none_of(column.type)
