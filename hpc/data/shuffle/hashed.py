"""Rows by the hash of keys, or spread evenly: repartition with keys or shuffle, and the groups of map_groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.shuffle import gather
from hpc.data.shuffle.exchange import Base, Parts, Place
from hpc.data.shuffle.order import SortKey, sort
from hpc.data.shuffle.partition import cut, hash_cut, in_order_of_hash, narrowest
from hpc.data.shuffle.ranges import Joined
from hpc.data.shuffle.states import no_column


@dataclass(frozen=True)
class HashShuffle(Base):
    """Rows of equal keys in one block; in several, where a group of partitions is too large for one task.

    sorted: rows of a block are in the order of the keys, and those of equal keys always in one.

    No keys: all rows in one block, as `groupby(None)` has it. by_hash: keys come in the order of their hash, so that
    the order of all rows does not depend on the number of partitions.
    """

    keys: tuple[str, ...]
    wanted: int | None = None
    sorted: bool = False
    exact: bool = True
    keeps_rows: bool = True
    by_hash: bool = False
    cut_by_reads: bool = True

    @property
    def name(self) -> str:
        return f"HashShuffle({', '.join(self.keys)})"

    @property
    def partitions(self) -> int | None:
        return self.wanted if self.keys else 1

    @property
    def must_fit(self) -> str:  # type: ignore[override]
        if not self.keys:
            return "Without a key all rows are one group: name a key."
        return (
            "A function of groups gets all rows of a group at once, in the memory of its worker. Where one key has "
            "most of the rows, divide its group: add a second key, as a number of the row modulo 100, and bring the "
            "results together by another groupby. `aggregate` needs no group as a whole. Where the rows are those of "
            "many keys, take more partitions: groupby(key, num_partitions=...)."
        )

    @property
    def divisible(self) -> tuple[int, ...]:
        return () if self.sorted or self.by_hash or not self.keys else (0,)

    def steady(self) -> HashShuffle:
        return replace(self, by_hash=True) if self.partitions is None else self

    def plan(self, samples: Any, metas: Any, partitions: int) -> HashPartitioner:
        return HashPartitioner(self.keys, self.sorted, partitions, self.by_hash)


@dataclass(frozen=True)
class HashPartitioner:
    """The tasks of a hash shuffle."""

    keys: tuple[str, ...]
    sorted: bool
    parts: int
    by_hash: bool = False

    def split(self, place: Place, tables: Iterator[pa.Table], task: Any) -> list[Parts]:
        return [self._cut(gather.combine(table)) for table in gather.runs(list(tables))]

    def _cut(self, table: pa.Table) -> Parts:
        if not table.num_columns and not table.num_rows:
            return Parts(table, np.zeros(self.parts + 1, np.int64))
        for key in self.keys:
            if key not in table.column_names:
                raise ValueError(no_column(key, table.column_names))
        return hash_cut(table, self.keys, self.parts)

    def merge(self, sides: list[list[pa.Table]], partition: int, task: Any) -> Iterator[pa.Table]:
        if sides[0]:
            table = gather.concat(sides[0])
            if self.sorted and table.num_rows:
                table = sort(table, [SortKey(key) for key in self.keys])
            yield in_order_of_hash(table, self.keys) if self.by_hash else table


@dataclass(frozen=True)
class Spread(Base):
    """A number of blocks of equal size but for one row: row n goes to block n modulo that number."""

    blocks: int
    divisible: tuple[int, ...] = (0,)
    in_order: bool = True
    ordered: bool = True
    exact: bool = True
    keeps_rows: bool = True

    @property
    def name(self) -> str:
        return f"Repartition({self.blocks}, shuffle)"

    @property
    def partitions(self) -> int | None:
        return self.blocks

    def plan(self, samples: Any, metas: Any, partitions: int) -> SpreadPartitioner:
        return SpreadPartitioner(self.blocks)


@dataclass(frozen=True)
class SpreadPartitioner(Joined):
    """The tasks of an even spread."""

    def split(self, place: Place, tables: Iterator[pa.Table], task: Any) -> list[Parts]:
        found, row = [], place.row
        for table in gather.runs(list(tables)):
            numbers = np.arange(row, row + table.num_rows) % self.parts
            found.append(cut(table, numbers.astype(narrowest(self.parts)), self.parts))
            row += table.num_rows
        return found
