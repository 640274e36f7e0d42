"""Which rows of two tables have equal keys: pairs of row numbers, in the order of the first table.

The payload takes no part in it, so that it may be of any type. Null is equal to nothing; all NaN are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block.codes import plain_floats, stable_order, whole
from hpc.data.block.flat import to_numpy
from hpc.data.block.promote import Conflict, common
from hpc.data.block.views import plain, plain_type
from hpc.data.shuffle.dense import codes_of_both
from hpc.data.shuffle.groups import offsets_of
from hpc.data.shuffle.states import no_column

# Numbers of rows in any order; a range: those of all rows.
Rows: TypeAlias = "np.ndarray | range"


class Matches:
    """The matches of the rows of one table (probe) among those of another (build)."""

    def __init__(self, probe: Sequence[pa.Array], build: Sequence[pa.Array]) -> None:
        self._codes, codes, count = _numbered(probe, build)
        known = codes >= 0
        every = known.all()
        self._rows = np.arange(len(codes)) if every else np.flatnonzero(known)
        self._built, self._count = codes if every else codes[self._rows], count

    @cached_property
    def _sizes(self) -> np.ndarray:
        """How many rows of the build each code has."""
        return np.bincount(self._built, minlength=self._count)

    @cached_property
    def _row_of(self) -> np.ndarray:
        """A row of the build for each code, or -1; the last one is that of the code -1. Its numbers are narrow, since
        there may be many codes for few rows."""
        narrow = len(self._rows) == 0 or int(self._rows[-1]) < 1 << 31
        found = np.full(self._count + 1, -1, np.int32 if narrow else np.int64)
        found[self._built] = self._rows
        return found

    @property
    def found(self) -> np.ndarray:
        """For each row of the probe whether it has a match."""
        return self._row_of[self._codes] >= 0

    def pairs(self, outer: bool) -> tuple[Rows, np.ndarray]:
        """Rows of the probe and of the build that match. `outer`: a row of the probe without a match is there with
        -1. A range stands for all rows of the probe, each once."""
        if not self._count:
            rows = range(len(self._codes) if outer else 0)
            return rows, np.full(len(rows), -1)
        if (self._row_of[self._built] == self._rows).all():
            return self._unique_pairs(outer)
        found = self.found
        starts = offsets_of(self._sizes)
        order = self._rows[stable_order(self._built, self._count)]
        counts = np.where(found, self._sizes[self._codes], 0)
        repeats = np.maximum(counts, 1) if outer else counts
        probe = np.repeat(np.arange(len(counts)), repeats)
        within = np.arange(len(probe)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        at = np.where(found, starts[self._codes], 0)[probe] + within
        if not outer:
            return probe, order[at]
        padded = order if len(order) else np.zeros(1, np.int64)
        return probe, np.where(found[probe], padded[np.minimum(at, len(padded) - 1)], -1)

    def unmatched_build(self, rows: int) -> np.ndarray:
        """The rows of the build, of so many, that no row of the probe matches."""
        hit = np.zeros(self._count, bool)
        hit[self._codes[self._codes >= 0]] = True
        free = np.ones(rows, bool)
        free[self._rows] = ~hit[self._built]
        return np.flatnonzero(free)

    def _unique_pairs(self, outer: bool) -> tuple[Rows, np.ndarray]:
        """As `pairs`, where each key is once in the build."""
        rows = self._row_of[self._codes]
        if outer or rows.min(initial=0) >= 0:
            return range(len(rows)), rows.astype(np.int64, copy=False)
        probe = np.flatnonzero(rows >= 0)
        return probe, rows[probe].astype(np.int64, copy=False)


def _numbered(probe: Sequence[pa.Array], build: Sequence[pa.Array]) -> tuple[np.ndarray, np.ndarray, int]:
    """A number below the count for the keys of each row, alike for equal keys; -1 where nothing can be equal."""
    probed, built, count = _one_numbered(probe[0], build[0])
    for one, other in zip(probe[1:], build[1:]):
        more, others, size = _one_numbered(one, other)
        probed = np.where((probed < 0) | (more < 0), -1, probed.astype(np.int64) * size + more)
        built = np.where((built < 0) | (others < 0), -1, built.astype(np.int64) * size + others)
        # -1 is null here, so that it is equal to nothing.
        probed, built, count = _one_numbered(pa.array(probed, mask=probed < 0), pa.array(built, mask=built < 0))
    return probed, built, count


def _one_numbered(probe: pa.Array, build: pa.Array) -> tuple[np.ndarray, np.ndarray, int]:
    placed = codes_of_both(probe, build)
    if placed is not None:
        return placed
    encoded = build.dictionary_encode()
    found = pc.index_in(probe, value_set=encoded.dictionary, skip_nulls=True)
    return _filled(found), _filled(encoded.indices), len(encoded.dictionary)


def _filled(indices: pa.Array) -> np.ndarray:
    return to_numpy(pc.fill_null(indices, -1) if indices.null_count else indices)


def keys_of(table: pa.Table, names: Sequence[str]) -> list[pa.Array]:
    """The key columns. Raises ValueError if one is not there."""
    for name in names:
        if name not in table.column_names:
            raise ValueError(no_column(name, table.column_names))
    return [plain(whole(table.column(name))) for name in names]


def comparable(one: pa.Array, other: pa.Array, names: tuple[str, str]) -> tuple[pa.Array, pa.Array]:
    """Two key columns of one type. Raises TypeError where their values cannot be equal."""
    one, other = _decoded(one), _decoded(other)
    if one.type != other.type:
        if _kind(one.type) != _kind(other.type) and not (pa.types.is_null(one.type) or pa.types.is_null(other.type)):
            raise TypeError(
                f"keys of a join are of one type: column {names[0]!r} of the left is {one.type}, "
                f"column {names[1]!r} of the right is {other.type}"
            )
        try:
            kind = common(one.type, other.type)
        except Conflict:
            kind = one.type
        one, other = _cast(one, kind), _cast(other, kind)
    if pa.types.is_floating(one.type):
        one, other = plain_floats(one), plain_floats(other)
    if pa.types.is_nested(one.type) or isinstance(one.type, pa.BaseExtensionType):
        raise TypeError(f"column {names[0]!r} cannot be the key of a join: its values are of type {one.type}")
    return one, other


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The same values of another type. Whole numbers that it has no room for are equal to none of it: null."""
    if pa.types.is_uint64(array.type) and pa.types.is_int64(kind):
        array = pc.if_else(pc.less(array, pa.scalar(1 << 63, pa.uint64())), array, pa.scalar(None, pa.uint64()))
    return array.cast(kind)


def of_one_type(left: pa.ChunkedArray, right: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Key columns that can be compared, of one type. Texts have that of the left, numbers one with room for both."""
    kind, other = left.type, right.type
    if kind == other or pa.types.is_null(other):
        return left, right.cast(kind)
    if pa.types.is_null(kind):
        return left.cast(other), right
    right = plain(right)
    if pa.types.is_dictionary(right.type):
        right = right.cast(right.type.value_type)
    if _kind(kind.value_type if pa.types.is_dictionary(kind) else kind) in ("text", "bytes"):
        without = plain_type(kind) or kind
        if pa.types.is_dictionary(without):
            right = right.cast(without.value_type).dictionary_encode()
        return left, right.cast(without).cast(kind)
    if pa.types.is_dictionary(kind):
        left = left.cast(kind.value_type)
    both = common(left.type, right.type)
    return left.cast(both), right.cast(both)


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return "bytes"
    if pa.types.is_decimal(kind):
        return "decimal"
    return str(kind)
