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


class Places(NamedTuple):
    """The place of each key, its offset from the smallest; and how many places there are."""

    at: np.ndarray
    smallest: int
    span: int


def places(keys: pa.Array | pa.ChunkedArray, rows: int | None = None, least: int = 1) -> Places | None:
    """The places of integers without nulls. None where there are other values, or fewer places than ``least``. None,
    too, where the range is too wide for so many rows (their own number if not given)."""
    count = len(keys) if rows is None else rows
    if not pa.types.is_integer(keys.type) or keys.null_count or not len(keys) or count < LEAST_ROWS:
        return None
    bounds = pc.min_max(keys)
    smallest, largest = bounds["min"].as_py(), bounds["max"].as_py()
    span = largest - smallest + 1
    if span < least or span > SPARSE * count or largest >= 1 << 62 or smallest <= -(1 << 62):
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
    """A number below the third value for each key of the build, and for the equal ones of the probe; -1 for its others.

    None where keys are no integers of a narrow range."""
    found = places(build, len(build) + len(probe))
    if found is None or probe.null_count or probe.type != build.type:
        return None
    at = offsets(probe, found.smallest)
    away = at.view(np.uint64) >= found.span  # those below are, too
    if away.any():
        at[away] = -1
    return at, found.at, found.span
