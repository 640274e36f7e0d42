"""Rows of parquet files that a table has deleted without writing their file anew: Delta's deletion vectors.

They are the places of rows in their file, sorted, as the bytes of 64-bit numbers. They travel with the tasks that read
these files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

#: The deleted rows of some files, by path.
Deleted: TypeAlias = tuple[tuple[str, bytes], ...]


def of_file(deleted: Deleted, path: str) -> np.ndarray:
    """The places of the deleted rows of a file."""
    for one, places in deleted:
        if one == path:
            return np.frombuffer(places, np.int64)
    return np.empty(0, np.int64)


def of_files(deleted: Deleted, paths: Iterable[str]) -> Deleted:
    """The part that some files need."""
    wanted = set(paths)
    return tuple(one for one in deleted if one[0] in wanted)


def left(rows: Sequence[int], places: np.ndarray) -> tuple[int, ...]:
    """How many rows are left in each of the row groups that have so many, one behind the other."""
    ends = np.cumsum(np.array(rows, np.int64))
    gone = np.searchsorted(places, ends) - np.searchsorted(places, ends - rows)
    return tuple((np.array(rows, np.int64) - gone).tolist())


class Places:
    """The places in a file of the rows of some of its row groups, given in order."""

    def __init__(self, rows: Sequence[int], groups: Sequence[int]) -> None:
        starts = np.concatenate([[0], np.cumsum(np.array(rows, np.int64))])
        self._ranges = iter([(int(starts[index]), int(starts[index + 1])) for index in groups])
        self._now = (0, 0)

    def next(self, count: int) -> np.ndarray:
        """The places of the next ``count`` rows."""
        parts = [np.empty(0, np.int64)]
        while count:
            first, end = self._now
            if first == end:
                self._now = next(self._ranges)
                continue
            taken = min(count, end - first)
            parts.append(np.arange(first, first + taken))
            self._now, count = (first + taken, end), count - taken
        return np.concatenate(parts)
