"""Hash partitions: which partition a row goes to by the values of its columns, and the rows in that order.

Equal values of one type hash alike in every process and on every machine. So do equal numbers of any width: integers,
floats, and decimals of any scale. So do equal times of several units, and strings with 32 and 64 bit offsets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block.draws import mixed
from hpc.data.block.flat import to_numpy
from hpc.data.shuffle import gather
from hpc.data.shuffle.exchange import Parts

_ODD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_NULL = np.uint64(0x7FB5D329728EA185)
# To nanoseconds.
_UNITS = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
_DAY = 86400 * 10**9
_TENS = np.array([float(10**power) for power in range(77)])
_NAN = np.uint64(0x94D049BB133111EB)
# Rows of one table lie in so many buckets; and what its schema says of them.
BUCKETS = 64
_STARTS = b"hpc.data.buckets"
# Bytes from which a string is hashed by itself, and not word by word together with all others.
_LONG = 256
# Rows of a piece that is cut by itself, at least: 512 KiB of a column of 8 bytes. With 32,768 a map task took a tenth
# less time, and a reduce task more than that, as it looks at each run. And about so many rows of each partition.
PIECE_ROWS, LEAST_RUN = 1 << 16, 128


def hash_columns(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """One uint64 per row from the values of these columns."""
    if not names:
        return np.zeros(table.num_rows, np.uint64)
    total = mixed(hash_column(table.column(names[0])))
    for name in names[1:]:
        total = _combined(total, hash_column(table.column(name)))
    return total


def hash_column(column: pa.ChunkedArray) -> np.ndarray:
    """One uint64 per value of a column."""
    hashes = [hash_array(chunk) for chunk in column.chunks]
    if len(hashes) == 1:
        return hashes[0]
    return np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)


def hash_array(array: pa.Array) -> np.ndarray:
    """One uint64 per value of an array; null is a value as others."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return hash_array(array.storage)
    if pa.types.is_null(kind):
        return np.full(len(array), _NULL)
    if pa.types.is_dictionary(kind):
        return _hash_dictionary(array)
    nulls = to_numpy(array.is_null()) if array.null_count else None
    hashes = _hash_values(array)
    if nulls is not None:
        hashes = np.where(nulls, _NULL, hashes)
    return hashes


def partition_ids(hashes: np.ndarray, parts: int) -> np.ndarray:
    """The partition of each hash by its upper 32 bits: a multiplication and a shift, no division."""
    ids = ((hashes >> _HALF) * np.uint64(parts)) >> _HALF
    return ids.astype(narrowest(parts))


def narrowest(parts: int) -> type:
    """The type of partition numbers. numpy sorts 8 and 16 bits by radix, in linear time."""
    return np.uint8 if parts <= 2**8 else np.uint16 if parts <= 2**16 else np.uint32


def cut(table: pa.Table, ids: np.ndarray, parts: int) -> Parts:
    """The rows in the order of their partitions, in the order they had within each."""
    if parts == 1 or not len(ids):
        return Parts(table, ends_of(ids, parts))
    return Parts(table, ends_of(ids, parts), np.argsort(ids, kind="stable"))


def ends_of(ids: np.ndarray, parts: int) -> np.ndarray:
    """Where each partition begins, and the last one ends, if rows of these partitions lie in their order."""
    ends = np.zeros(parts + 1, np.int64)
    np.cumsum(np.bincount(ids, minlength=parts), out=ends[1:])
    return ends


#: Gives for the rows from one number to another which of them come first, and where partitions begin and end then.
Piece: TypeAlias = Callable[[int, int], tuple[np.ndarray, np.ndarray]]


def cut_in_pieces(table: pa.Table, parts: int, piece: Piece) -> Parts:
    """The same in pieces of rows whose values the caches of a processor have: values are taken twice as fast."""
    count = table.num_rows
    step = max(PIECE_ROWS, LEAST_RUN * parts)
    if not count:
        return Parts(table, np.array([0] + [count] * parts))
    starts = range(0, count, step)
    offsets, rows = np.empty((len(starts), parts + 1), np.int64), np.empty(count, np.int64)
    for number, start in enumerate(starts):
        stop = min(count, start + step)
        order, ends = piece(start, stop)
        np.add(ends, start, out=offsets[number])
        rows[start:stop] = order
    return Parts(table, np.array([0, count])) if parts == 1 else Parts(table, offsets, rows)


def hash_cut(table: pa.Table, names: Sequence[str], parts: int) -> Parts:
    """The rows by the hash of these columns."""
    if parts == 1:
        return Parts(table, np.array([0, table.num_rows]))
    return cut(table, partition_ids(hash_columns(table, names), parts), parts)


def in_order_of_hash(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The rows in the order of the hash of these columns. Those with equal ones keep theirs."""
    if table.num_rows < 2 or not names:
        return table
    return gather.take(table, np.argsort(hash_columns(table, names), kind="stable"))


def in_buckets(tables: Sequence[pa.Table], names: Sequence[str]) -> pa.Table:
    """The rows of tables as one, each run of them in the order of its buckets: small partitions, of which neighbours
    make larger ones. The schema tells where each begins. Runs are of as many rows as caches have."""
    found, starts = [], []
    for table in gather.runs(tables):
        parts = cut(table, partition_ids(hash_columns(table, names), BUCKETS), BUCKETS)
        found.append(parts.range(0, BUCKETS))
        starts.append(",".join(map(str, parts.offsets)))
    whole = gather.combine(gather.concat(found))
    return whole.replace_schema_metadata({**(whole.schema.metadata or {}), _STARTS: ";".join(starts).encode()})


def part_of_buckets(table: pa.Table, names: Sequence[str], part: int, parts: int) -> list[pa.Table]:
    """The rows of a partition of so many, at most as many as buckets; views where the rows lie in buckets."""
    text = (table.schema.metadata or {}).get(_STARTS, b"").decode()
    runs = [[int(start) for start in run.split(",")] for run in text.split(";") if run]
    if sum(run[-1] for run in runs) != table.num_rows:  # as it is a part of what lay so
        return part_of_buckets(in_buckets([table], names), names, part, parts)
    first, last = -(-part * BUCKETS // parts), -(-(part + 1) * BUCKETS // parts)
    found, row = [], 0
    for starts in runs:
        found.append(table.slice(row + starts[first], starts[last] - starts[first]))
        row += starts[-1]
    return found or [table]


def _combined(total: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    total = total * _ODD
    total += hashes
    return mixed(total)


def _hash_dictionary(array: pa.DictionaryArray) -> np.ndarray:
    """Of the values; the numbers of a dictionary differ from block to block."""
    values = np.append(hash_array(array.dictionary), _NULL)
    indices = array.indices
    if indices.null_count:
        indices = pc.fill_null(indices.cast(pa.int64()), len(values) - 1)
    return values[to_numpy(indices)]


_LISTS = (
    pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
    pa.types.is_large_list_view,
)  # fmt: skip


def _hash_values(array: pa.Array) -> np.ndarray:
    kind = array.type
    if pa.types.is_floating(kind):
        return _hash_floats(array)
    if pa.types.is_integer(kind):
        return mixed(_numbers(array).astype(np.int64, copy=False).view(np.uint64) * _ODD)
    if pa.types.is_boolean(kind):
        return mixed(to_numpy(array.cast(pa.uint8()).fill_null(0)).astype(np.uint64) * _ODD)
    if _is_text(kind):
        return _hash_texts(array)
    if pa.types.is_struct(kind):
        total = np.zeros(len(array), np.uint64)
        for child in array.flatten():
            total = _combined(total, hash_array(child))
        return total
    if any(is_one(kind) for is_one in _LISTS):
        return _hash_lists(array)
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return _hash_times(array)
    if pa.types.is_decimal(kind):
        return _hash_decimals(array)
    width = gather.fixed_width(kind)
    if not width or width % 4:
        raise TypeError(f"rows cannot be partitioned by values of type {kind}")
    return _hash_words(array, width)


def _numbers(array: pa.Array) -> np.ndarray:
    """Integers as numpy has them; a null is any number."""
    return np.frombuffer(
        array.buffers()[1], array.type.to_pandas_dtype(), len(array), array.offset * (array.type.bit_width // 8)
    )


def _hash_floats(array: pa.Array) -> np.ndarray:
    return _hashed_floats(_numbers(array).astype(np.float64))


def _hashed_floats(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers hash as integers do; -0.0 as 0.0; all NaN alike."""
    with np.errstate(invalid="ignore"):
        whole = numbers.astype(np.int64)
        fits = (whole == numbers) & (np.abs(numbers) < 2.0**63)
    hashes = mixed(np.where(fits, whole.view(np.uint64), numbers.view(np.uint64)) * _ODD)
    return np.where(np.isnan(numbers), _NAN, hashes)


def _hash_times(array: pa.Array) -> np.ndarray:
    """As nanoseconds, whatever the unit. Those beyond 64 bits are cut off: equal times stay equal."""
    kind = array.type
    whole = np.int32 if kind.bit_width == 32 else np.int64
    values = np.frombuffer(array.buffers()[1], whole, len(array), array.offset * (kind.bit_width // 8))
    if pa.types.is_date(kind):
        factor = _DAY if pa.types.is_date32(kind) else _UNITS["ms"]
    else:
        factor = _UNITS[kind.unit]
    return mixed(values.astype(np.int64).view(np.uint64) * np.uint64(factor) * _ODD)


def _hash_decimals(array: pa.Array) -> np.ndarray:
    """Without the zeros at their end: whole numbers as integers, others as the floats that are next to them."""
    width, scale = array.type.bit_width // 8, array.type.scale
    data = np.frombuffer(array.buffers()[1], np.uint8, len(array) * width, array.offset * width)
    if width <= 8:
        values, large = data.view(f"<i{width}").astype(np.int64), np.zeros(len(array), bool)
    else:
        words = data.view("<i8").reshape(len(array), width // 8)
        values = words[:, 0].copy()
        large = (words[:, 1:] != (values >> 63)[:, None]).any(axis=1)
    if scale < 0:
        large[:] = True
    scales = np.full(len(array), max(0, scale))
    rows = np.arange(len(array))
    for _ in range(scale):
        rows = rows[values[rows] % 10 == 0]
        if not len(rows):
            break
        values[rows] //= 10
        scales[rows] -= 1
    hashes = mixed(values.view(np.uint64) * _ODD)
    if (parts := np.flatnonzero(scales)).size:
        hashes[parts] = _hashed_floats(values[parts] / _TENS[scales[parts]])
    if large.any():
        valid = to_numpy(array.is_valid())
        cells = data.reshape(len(array), width)
        for row in np.flatnonzero(large & valid):
            hashes[row] = _hash_large(int.from_bytes(cells[row].tobytes(), "little", signed=True), scale)
    return hashes


def _hash_large(number: int, scale: int) -> np.uint64:
    """Of one decimal, as `_hash_decimals` does of those of 64 bits."""
    if scale < 0:
        number, scale = number * 10**-scale, 0
    while scale and not number % 10:
        number, scale = number // 10, scale - 1
    if not scale and -(2**63) <= number < 2**64:
        return mixed(np.array([number % 2**64], np.uint64) * _ODD)[0]
    return _hashed_floats(np.array([float(number)]) / _TENS[scale])[0]


def _hash_words(array: pa.Array, width: int) -> np.ndarray:
    """Of other values of a fixed number of 32 bit words."""
    words = np.frombuffer(array.buffers()[1], np.uint32, len(array) * width // 4, array.offset * width)
    total = np.zeros(len(array), np.uint64)
    for column in words.reshape(len(array), width // 4).T:
        total = _combined(total, column.astype(np.uint64))
    return total


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
    )  # fmt: skip


def _hash_texts(array: pa.Array) -> np.ndarray:
    """Eight bytes of every string at a time, so that there are as many steps as the longest short string has words."""
    kind = array.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        array = array.cast(pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary())
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    offset_type = np.int64 if large else np.int32
    _, offset_buffer, data = array.buffers()
    offsets = np.frombuffer(offset_buffer, offset_type, len(array) + 1, array.offset * np.dtype(offset_type).itemsize)
    offsets = offsets.astype(np.int64)
    start, lengths = offsets[:-1], np.diff(offsets)
    total = lengths.astype(np.uint64) * _ODD
    if data is None or not len(array) or not lengths.any():
        return mixed(total)
    base, end = int(offsets[0]), int(offsets[-1])
    padded = np.empty(end - base + 8, np.uint8)
    padded[:-8] = np.frombuffer(data, np.uint8, end - base, base)
    padded[-8:] = 0
    start = start - base
    _hash_short(total, padded, start, lengths)
    for row in np.flatnonzero(lengths > _LONG):
        text = padded[start[row] : start[row] + lengths[row]]
        total[row] = int.from_bytes(hashlib.blake2b(text.tobytes(), digest_size=8).digest(), "little")
    return mixed(total)


def _hash_short(total: np.ndarray, padded: np.ndarray, start: np.ndarray, lengths: np.ndarray) -> None:
    """Mix all words of strings up to the limit into `total`."""
    words = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))
    rows: np.ndarray | slice = slice(None) if int(lengths.max()) <= _LONG else np.flatnonzero(lengths <= _LONG)
    at, left = start[rows], lengths[rows]
    while True:
        if left.min(initial=8) < 1:
            more = np.flatnonzero(left > 0)
            rows = more if isinstance(rows, slice) else rows[more]
            at, left = at[more], left[more]
        if not len(at):
            return
        bits = np.minimum(left, 8).astype(np.uint64) * np.uint64(8)
        word = words[at] << (np.uint64(64) - bits)
        total[rows] = mixed(total[rows] * _ODD + word)
        at, left = at + 8, left - 8


def _hash_lists(array: pa.Array) -> np.ndarray:
    """The sum of the mixed hashes of the items with their places, and the length."""
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.large_list(array.type.value_type))
    counts = to_numpy(pc.fill_null(pc.list_value_length(array), 0)).astype(np.int64)
    items = hash_array(array.flatten())
    starts = np.cumsum(counts) - counts
    places = np.arange(len(items), dtype=np.int64) - np.repeat(starts, counts)
    items = mixed(items + places.astype(np.uint64) * _ODD)
    sums = np.append(np.zeros(1, np.uint64), np.cumsum(items, dtype=np.uint64))
    return mixed((sums[starts + counts] - sums[starts]) + counts.astype(np.uint64) * _ODD)
