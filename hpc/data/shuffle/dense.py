"""Integer keys of a narrow range: a key less the smallest one is a place in an array, and nothing is hashed.

Keys that count something (orders, customers, samples) are so. It is several times as fast as a hash table there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block.flat import to_numpy
from hpc.data.shuffle.kernel import Kernel

#: Fewer rows are not worth it. With fewer places than this the additions of one place wait for each other.
LEAST_ROWS, LEAST_SPAN = 4096, 512
#: The places may be so many times the rows.
SPARSE = 4
#: Whole numbers below this are exact as floats.
EXACT = 1 << 53
#: Keys this far from 0 are no places: differences of two could be too large for 64 bits.
FARTHEST = 1 << 62


class Places(NamedTuple):
    """The place of each key, its offset from the smallest; and how many places there are."""

    at: np.ndarray
    smallest: int
    span: int


def places(keys: pa.Array | pa.ChunkedArray, least: int = 1) -> Places | None:
    """The places of integers without nulls. None where there are other values, or fewer places than ``least``. None,
    too, where the range is too wide for so many rows."""
    count = len(keys)
    if not pa.types.is_integer(keys.type) or keys.null_count or not count or count < LEAST_ROWS:
        return None
    smallest, largest = bounds(keys)
    span = largest - smallest + 1
    if span < least or span > SPARSE * count or largest >= FARTHEST or smallest <= -FARTHEST:
        return None
    return Places(offsets(keys, smallest), smallest, span)


def offsets(keys: pa.Array | pa.ChunkedArray, smallest: int) -> np.ndarray:
    """How much each key is more than the smallest, int64."""
    values = flat(keys)
    if values.dtype == np.int64:
        return values - smallest
    found = values.astype(np.int64)
    found -= smallest
    return found


def flat(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Numbers without nulls as numpy has them; a copy only of several chunks."""
    return to_numpy(column)


def group_by(keys: pa.ChunkedArray, kernels: Sequence[Kernel]) -> tuple[pa.Array, list[pa.Array]] | None:
    """The keys in ascending order, and for each kernel its values; None where it cannot be done by places."""
    if not all(_is_simple(kernel) for kernel in kernels):
        return None
    found = places(keys, least=LEAST_SPAN)
    if found is None:
        return None
    counts = np.bincount(found.at, minlength=found.span)
    there = np.flatnonzero(counts)
    values = [_states(kernel, found, counts)[there] for kernel in kernels]
    return pa.array(there + found.smallest).cast(keys.type), [pa.array(column) for column in values]


def _is_simple(kernel: Kernel) -> bool:
    """Whether it adds numbers, or counts rows; without nulls, all its options are alike."""
    if kernel.array.null_count:
        return False
    return kernel.function == "count" or (kernel.function == "sum" and kernel.array.type in (pa.float64(), pa.int64()))


def _states(kernel: Kernel, found: Places, counts: np.ndarray) -> np.ndarray:
    if kernel.function == "count":
        return counts
    values = flat(kernel.array)
    if values.dtype.kind == "f":
        return np.bincount(found.at, values, found.span)
    largest = max(int(values.max()), -int(values.min()))  # the smallest number of 64 bits has no absolute value there
    if largest * len(values) < EXACT:
        return np.bincount(found.at, values, found.span).astype(np.int64)
    sums = np.zeros(found.span, np.int64)
    np.add.at(sums, found.at, values)
    return sums


def codes_of_both(probe: pa.Array, build: pa.Array) -> tuple[np.ndarray, np.ndarray, int] | None:
    """A number below the third value for each key of the build, and for the equal ones of the probe; -1 for others.

    Only keys between the bounds of both have one. Parts of sorted rows have narrow bounds, which caches have room for.
    None where keys are no integers, or those bounds are far apart."""
    count = len(build) + len(probe)
    if not pa.types.is_integer(build.type) or build.null_count or probe.null_count or probe.type != build.type:
        return None
    if count < LEAST_ROWS or not len(build) or not len(probe):
        return None
    (least, most), (low, high) = bounds(build), bounds(probe)
    if max(most, high) >= FARTHEST or min(least, low) <= -FARTHEST:
        return None
    first, last = max(least, low), min(most, high)
    if first > last:
        return np.full(len(probe), -1), np.full(len(build), -1), 0
    span = last - first + 1
    if span > SPARSE * count:
        return None
    at = _between(probe, first, span, low < first or high > last)
    return at, _between(build, first, span, least < first or most > last), span


def bounds(keys: pa.Array | pa.ChunkedArray) -> tuple[int, int]:
    """The smallest and the largest of some integers without nulls."""
    found = pc.min_max(keys)
    return found["min"].as_py(), found["max"].as_py()


def _between(keys: pa.Array, first: int, span: int, some_are_not: bool) -> np.ndarray:
    """How much each key is more than the first; -1 for those that are not among so many from there."""
    at = offsets(keys, first)
    if some_are_not:
        at[at.view(np.uint64) >= span] = -1  # those below are, too
    return at
