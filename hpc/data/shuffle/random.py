"""A random order of all rows, which depends on the seed and the order of the input alone.

With a seed each row has a random number, by its place in the input, and the rows are sorted by that. So neither the
number of partitions nor how rows come in blocks makes a difference. Without a seed numbers need not travel: each
partition is put in an order of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.draws import draws
from hpc.data.shuffle import gather
from hpc.data.shuffle.exchange import Base, Parts, Place, Reordering
from hpc.data.shuffle.partition import cut_in_pieces, ends_of, partition_ids

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
#: The column of the rows' numbers, on the way to their partition. Of those with equal ones the order stays.
_NUMBER = "__hpc_random"


@dataclass(frozen=True)
class RandomShuffle(Base):
    """All rows in a random order. `seed` None: another one each time that a plan is made."""

    seed: int | None = None
    keeps_rows: bool = True
    reorders: bool = True

    @property
    def name(self) -> str:
        return "RandomShuffle"

    @property
    def in_order(self) -> bool:  # type: ignore[override]
        return self.seed is not None

    def plan(self, samples: Any, metas: Any, partitions: int) -> RandomPartitioner:
        if self.seed is not None:
            return SeededPartitioner(self.seed & 0xFFFFFFFFFFFFFFFF, partitions)
        return RandomPartitioner(int(np.random.SeedSequence().generate_state(1, np.uint64)[0]), partitions)


@dataclass(frozen=True)
class RandomPartitioner(Reordering):
    """A row goes to a partition by its number, then every partition is put in a random order."""

    seed: int
    parts: int

    def split(self, place: Place, tables: Iterator[pa.Table], task: Any) -> list[Parts]:
        found, row = [], place.row
        for table in gather.runs(list(tables)):
            found.append(self._cut(gather.combine(table), row))
            row += table.num_rows
        return found

    def _cut(self, table: pa.Table, row: int) -> Parts:
        def piece(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            ids = partition_ids(draws(self.seed, row + start, stop - start), self.parts)
            return np.argsort(ids, kind="stable"), ends_of(ids, self.parts)

        return cut_in_pieces(table, self.parts, piece)

    @property
    def looks_at(self) -> tuple[str, ...]:
        return (self.hidden,) if self.hidden else ()

    def order_of(self, table: Callable[[], pa.Table], rows: int, partition: int) -> np.ndarray:
        return permutation(self.seed ^ (partition + 1), rows)


class SeededPartitioner(RandomPartitioner):
    """The rows are sorted by their random numbers: partitions are ranges of these."""

    hidden = _NUMBER

    def _cut(self, table: pa.Table, row: int) -> Parts:
        upper = np.zeros(table.num_rows, np.uint32)

        def piece(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            numbers = draws(self.seed, row + start, stop - start)
            ids = partition_ids(numbers, self.parts)
            numbers >>= _HALF
            upper[start:stop] = numbers
            return np.argsort(ids, kind="stable"), ends_of(ids, self.parts)

        found = cut_in_pieces(table, self.parts, piece)
        return replace(found, table=table.append_column(_NUMBER, pa.array(upper)))

    def order_of(self, table: Callable[[], pa.Table], rows: int, partition: int) -> np.ndarray:
        return _sorted(gather.whole(table().column(_NUMBER)))


def _sorted(numbers: Any) -> np.ndarray:
    """The rows in the order of 32-bit numbers. Those with equal ones keep theirs."""
    found = np.asarray(numbers)
    if len(found) > 2**32:
        return np.argsort(found, kind="stable")
    words = found.astype(np.uint64)
    words <<= _HALF
    words |= np.arange(len(words), dtype=np.uint64)
    words.sort()
    words &= _LOW
    return words.view(np.int64)


def permutation(seed: int, count: int) -> np.ndarray:
    """The numbers below `count` in a random order, alike with all versions of numpy."""
    if count > 2**32:
        return np.argsort(draws(seed, 0, count))
    words = draws(seed, 0, count)
    words &= ~_LOW
    words |= np.arange(count, dtype=np.uint64)
    words.sort()
    words &= _LOW
    return words.view(np.int64)
