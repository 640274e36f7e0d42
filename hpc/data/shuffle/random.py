"""A random order of all rows, which depends on the seed, the order of the input and the number of partitions alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.shuffle import gather
from hpc.data.shuffle.exchange import Base, Parts, Place, Reordering
from hpc.data.shuffle.partition import cut, mixed, partition_ids

_STEP = np.uint64(0x9E3779B97F4A7C15)
_LOW = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class RandomShuffle(Base):
    """All rows in a random order. `seed` None: another one each time that a plan is made."""

    seed: int | None = None
    keeps_rows: bool = True

    @property
    def name(self) -> str:
        return "RandomShuffle"

    @property
    def in_order(self) -> bool:  # type: ignore[override]
        return self.seed is not None

    def plan(self, samples: Any, metas: Any, partitions: int) -> RandomPartitioner:
        seed = self.seed if self.seed is not None else int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
        return RandomPartitioner(seed & 0xFFFFFFFFFFFFFFFF, partitions)


@dataclass(frozen=True)
class RandomPartitioner(Reordering):
    """A row goes to a partition by its number, then every partition is put in a random order."""

    seed: int
    parts: int

    def split(self, place: Place, tables: Iterator[pa.Table], task: Any) -> list[Parts]:
        found, row = [], place.row
        for table in gather.runs(list(tables)):
            ids = partition_ids(draws(self.seed, row, table.num_rows), self.parts)
            found.append(cut(table, ids, self.parts))
            row += table.num_rows
        return found

    def order_of(self, table: pa.Table, partition: int) -> np.ndarray:
        return permutation(self.seed ^ (partition + 1), table.num_rows)


def draws(seed: int, first: int, count: int) -> np.ndarray:
    """`count` random uint64, from the one of number `first` on: every row's is its own, whatever task computes it."""
    words = np.arange(first, first + count, dtype=np.uint64)
    words += mixed(np.array([seed], np.uint64))
    words *= _STEP
    return mixed(words)


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
