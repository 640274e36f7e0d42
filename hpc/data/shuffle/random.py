"""A random order of all rows, which depends on the seed and the order of the input alone.

Each row has a random number, by its place in the input, and the rows are sorted by that. So neither the number of
partitions nor how rows come in blocks makes a difference. Without a seed one is drawn for each run.

Map tasks sort pieces of rows that fit a processor's caches. What a reduce task then puts in order are sorted runs. It
takes the values of each run one after the other: these are near, however many rows a partition has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.draws import draws
from hpc.data.block.flat import to_numpy
from hpc.data.shuffle import gather
from hpc.data.shuffle.exchange import Base, Parts, Place, Reordering
from hpc.data.shuffle.partition import cut_in_pieces

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
    cut_by_reads: bool = True
    sorts_pieces: bool = True

    @property
    def name(self) -> str:
        return "RandomShuffle"

    @property
    def in_order(self) -> bool:  # type: ignore[override]
        return self.seed is not None

    def plan(self, samples: Any, metas: Any, partitions: int) -> RandomPartitioner:
        seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) if self.seed is None else self.seed
        return RandomPartitioner(seed & 0xFFFFFFFFFFFFFFFF, partitions)


@dataclass(frozen=True)
class RandomPartitioner(Reordering):
    """The rows are sorted by the upper halves of their random numbers: partitions are ranges of these."""

    seed: int
    parts: int

    hidden = _NUMBER

    def split(self, place: Place, tables: Iterator[pa.Table], task: Any) -> list[Parts]:
        found, row = [], place.row
        for table in gather.runs(list(tables)):
            found.append(self._cut(gather.combine(table), row))
            row += table.num_rows
        return found

    def _cut(self, table: pa.Table, row: int) -> Parts:
        upper = np.zeros(table.num_rows, np.uint32)
        # The least number of each partition but the first.
        bounds = np.array([-(-(part << 32) // self.parts) for part in range(1, self.parts)], np.uint64) << _HALF

        def piece(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            words = draws(self.seed, row + start, stop - start)
            upper[start:stop] = words >> _HALF
            words = _with_rows(words)
            return (words & _LOW).view(np.int64), np.concatenate([[0], np.searchsorted(words, bounds), [len(words)]])

        found = cut_in_pieces(table, self.parts, piece)
        return replace(found, table=table.append_column(_NUMBER, pa.array(upper)))

    def order_of(self, table: Callable[[], pa.Table], rows: int, partition: int) -> np.ndarray:
        numbers = to_numpy(gather.whole(table().column(_NUMBER)))
        if rows > 2**32:
            return np.argsort(numbers, kind="stable")
        words = _with_rows(numbers.astype(np.uint64) << _HALF)
        words &= _LOW
        return words.view(np.int64)


def _with_rows(words: np.ndarray) -> np.ndarray:
    """The upper halves of words, sorted, each with the number of its row, in place."""
    words &= ~_LOW
    words |= np.arange(len(words), dtype=np.uint64)
    words.sort()
    return words
