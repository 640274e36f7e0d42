"""Blocks cut anew by row numbers: repartition and splits. No row is moved by a task that only cuts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa

from hpc.data.shuffle import gather
from hpc.data.shuffle.exchange import Base, Gather, Need, Range

#: A block and what it is made of have room, if a block is at most one part in so many of a node's store.
STORE_SHARE = 2


def cut_rows(rows: Sequence[int], bounds: Sequence[int]) -> list[tuple[Range, ...]]:
    """The ranges of blocks of these numbers of rows between each two bounds (the first 0, ascending)."""
    ends = list(accumulate(rows))
    result = []
    for start, stop in pairwise(bounds):
        found = []
        block = bisect_right(ends, start)
        while start < stop and block < len(ends):
            first = ends[block] - rows[block]
            until = min(stop, ends[block])
            if until > start:
                found.append(Range(block, start - first, until - first))
            start, block = until, block + 1
        result.append(tuple(found))
    return result


def even_bounds(total: int, parts: int) -> list[int]:
    """Bounds of parts of equal size but for one row; the last are empty where there are more parts than rows."""
    if total < parts:
        return [min(number, total) for number in range(parts + 1)]
    return [number * total // parts for number in range(parts + 1)]


def bounds_at(total: int, indices: Sequence[int]) -> list[int]:
    """Bounds of the parts before, between and behind these row numbers.

    Raises ValueError if there is none, one is negative, or they are not sorted.
    """
    if not indices:
        raise ValueError("a split needs at least one index")
    if any(index < 0 for index in indices):
        raise ValueError(f"indices of a split are not negative: {list(indices)}")
    if list(indices) != sorted(indices):
        raise ValueError(f"indices of a split must be sorted: {list(indices)}")
    return [0, *(min(index, total) for index in indices), total]


def bounds_of_shares(total: int, proportions: Sequence[float]) -> list[int]:
    """Bounds of parts that have these shares of the rows, and of one that has the rest; none of them empty.

    Raises ValueError if there is no share, one is not positive, they leave nothing, or there are too few rows.
    """
    if not len(proportions):
        raise ValueError("a split needs at least one proportion")
    if any(share <= 0 for share in proportions):
        raise ValueError(f"proportions of a split are above 0: {list(proportions)}")
    if sum(proportions) >= 1:
        raise ValueError(f"the proportions of a split sum to less than 1, and {list(proportions)} do not")
    ends = [int(total * share) for share in accumulate(proportions)]
    # A part that would be empty takes a row of the part behind it; from the back, so that none is left with nothing.
    below = total
    for number in range(len(ends) - 1, -1, -1):
        below = ends[number] = min(ends[number], below - 1)
    above = 0
    for number, end in enumerate(ends):
        above = ends[number] = max(end, above + 1)
    bounds = [0, *ends, total]
    if any(start >= stop for start, stop in pairwise(bounds)):
        raise ValueError(f"{total} rows cannot be split by the proportions {list(proportions)} with no part empty")
    return bounds


def bounds_of_test(total: int, test_size: float | int) -> list[int]:
    """Bounds of the rows for training and those for a test: a share (float) or a number (int) of the last rows.

    Raises ValueError if it is not between 0 and all, TypeError if it is no number.
    """
    if isinstance(test_size, bool) or not isinstance(test_size, (int, float)):
        raise TypeError(f"`test_size` is a float or an int, not {type(test_size).__name__}")
    if isinstance(test_size, float):
        if not 0 < test_size < 1:
            raise ValueError(f"a `test_size` that is a float is above 0 and below 1, and {test_size} is not")
        return bounds_of_shares(total, [1 - test_size])
    if not 0 < test_size < total:
        raise ValueError(f"a `test_size` that is an int is above 0 and below the number of rows ({total}): {test_size}")
    return [0, total - test_size, total]


def blocks_of_splits(rows: Sequence[int], parts: int, equal: bool) -> list[tuple[Range, ...]]:
    """Which blocks each of so many splits has: whole blocks, or as many rows in each (the last rows go to none)."""
    total = sum(rows)
    if equal:
        each = total // parts
        return cut_rows(rows, [number * each for number in range(parts + 1)])
    blocks = [Range(number, 0, count) for number, count in enumerate(rows)]
    size, spread = divmod(len(rows), parts)
    starts = [number * size + min(number, spread) for number in range(parts + 1)]
    return [tuple(blocks[start:stop]) for start, stop in pairwise(starts)]


@dataclass(frozen=True)
class Joined:
    """A block of each range list: the ranges one after the other."""

    parts: int

    def merge(self, sides: list[list[pa.Table]], partition: int, task: Any) -> Iterator[pa.Table]:
        yield gather.concat(sides[0]) if sides[0] else pa.table({})


@dataclass(frozen=True)
class Repartition(Base):
    """A number of blocks of equal size but for one row, in the order of the rows; nothing is shuffled.

    most_bytes: a block of more bytes does not fit a node's store, and is several blocks of at most ``part_bytes`` each.
    None: no limit."""

    blocks: int
    most_bytes: int | None = None
    part_bytes: int = 0
    needs: Need = "metas"
    in_order: bool = True
    ordered: bool = True
    exact: bool = True
    keeps_rows: bool = True

    @property
    def name(self) -> str:
        return f"Repartition({self.blocks})"

    @property
    def partitions(self) -> int | None:
        return self.blocks

    def fitted(self, store: int, task_bytes: int, nodes: int) -> Repartition:
        return replace(self, most_bytes=store // STORE_SHARE, part_bytes=task_bytes)

    def plan(self, samples: Any, metas: Any, partitions: int) -> Gather:
        rows = [meta.rows for meta in metas[0]]
        bounds = even_bounds(sum(rows), self.blocks)
        if self.most_bytes is not None:
            sizes = [_bytes_of(some, metas[0]) for some in cut_rows(rows, bounds)]
            counts = [1 if size <= self.most_bytes else -(-size // max(1, self.part_bytes)) for size in sizes]
            inner = [start + (stop - start) * number // count for (start, stop), count in zip(pairwise(bounds), counts)
                     for number in range(count)]  # fmt: skip
            bounds = [*inner, bounds[-1]]
        ranges = cut_rows(rows, bounds)
        # A block without rows still has columns: of the first block that there is.
        empty = (Range(0, 0, 0),) if rows else ()
        return Gather(tuple((some or empty,) for some in ranges), Joined(len(ranges)))


def _bytes_of(ranges: Sequence[Range], metas: Sequence[Any]) -> int:
    """The bytes of ranges of blocks, if the rows of a block are alike."""
    return sum(metas[one.block].nbytes * (one.stop - one.start) // max(1, metas[one.block].rows) for one in ranges)
