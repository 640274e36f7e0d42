"""Sort: samples of the keys give boundaries, rows go to the partition between two of them, each is sorted alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.codes import whole
from hpc.data.block.flat import distinct, to_numpy
from hpc.data.block.promote import concat as promoted
from hpc.data.shuffle import gather
from hpc.data.shuffle.exchange import Base, Early, Exchange, Gather, Need, Parts, Place, Range, Reordering
from hpc.data.shuffle.order import SortKey, column_of, order, ranked, reverse, sort, stable_argsort
from hpc.data.shuffle.partition import cut_in_pieces, ends_of, narrowest

# Sampled rows of a block: so many, and one more for each of so many rows, up to so many.
_FEWEST, _ROWS_EACH, _MOST = 64, 2000, 1024

# Rows of at most so many bytes are sorted by one task; and so many first rows at most are looked for ahead.
FEW_BYTES, MOST_TOP = 1 << 20, 10_000
# Where the first rows are looked for, tables of so many bytes are put together at least.
_HELD_BYTES = 1 << 20


@dataclass(frozen=True)
class Sort(Base):
    """All rows in the order of the keys. `boundaries`: values of the first key between which blocks are cut."""

    keys: tuple[SortKey, ...]
    boundaries: tuple[Any, ...] | None = None
    in_order: bool = True
    ordered: bool = True
    keeps_rows: bool = True
    takes_filters: bool = True
    #: Only so many rows of the result are wanted; None: all. early: tasks before it pass on their first ones alone.
    most: int | None = None
    early: bool = False

    @property
    def reorders(self) -> bool:  # type: ignore[override]
        return self.boundaries is None

    @property
    def cut_by_reads(self) -> bool:  # type: ignore[override]
        return self.boundaries is None and self.most is None

    @property
    def columns_looked_at(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(dict.fromkeys(key.column for key in self.keys))

    @property
    def name(self) -> str:
        return f"Sort({', '.join(key.column for key in self.keys)})"

    @property
    def needs(self) -> Need:  # type: ignore[override]
        return "samples" if self.boundaries is None else "nothing"

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return self.boundaries is not None

    @property
    def partitions(self) -> int | None:
        return None if self.boundaries is None else len(self.boundaries) + 1

    @property
    def few_bytes(self) -> int:  # type: ignore[override]
        return FEW_BYTES if self.boundaries is None else 0

    def few(self, metas: Any) -> Gather:
        ranges = tuple(Range(block, 0, meta.rows) for block, meta in enumerate(metas[0]))
        return Gather(((ranges,),), RangePartitioner(self.keys, None, "right", self.most))

    def limited(self, rows: int) -> Sort:
        return replace(self, most=rows if self.most is None else min(rows, self.most))

    def ahead(self) -> tuple[Early, Exchange] | None:
        if self.early or self.most is None or self.most > MOST_TOP or self.boundaries is not None:
            return None
        return TopRows(self.keys, self.most), replace(self, early=True)

    def sample(self, side: int, table: pa.Table, task: Any) -> pa.Table | None:
        """The keys of some rows, their numbers in the block, and for how many rows each of them stands."""
        if not table.num_rows:
            return None
        count = min(table.num_rows, _FEWEST + table.num_rows // _ROWS_EACH, _MOST)
        rows = np.sort(np.random.default_rng(table.num_rows).choice(table.num_rows, count, replace=False))
        columns = [whole(gather.take_column(column_of(table, key.column), rows)) for key in self.keys]
        return _keys_table([*columns, pa.array(rows), pa.array(np.full(count, table.num_rows / count))])

    def plan(self, samples: Any, metas: Any, partitions: int) -> RangePartitioner:
        if self.boundaries is not None:
            first = self.keys[:1]
            bounds = sort(pa.table({"0": pa.array(self.boundaries)}), [SortKey("0", first[0].descending)])
            # A row that is equal to a boundary lies at its upper side, in either direction.
            return RangePartitioner(self.keys, bounds, "left" if first[0].descending else "right")
        return RangePartitioner(self.keys, self._bounds(samples[0], partitions), "right")

    def _bounds(self, samples: Sequence[pa.Table], partitions: int) -> pa.Table | None:
        """Keys between which rows are cut. Where a key is so frequent that several cuts fall on it, the places of the
        rows in the input cut them too. As equal rows keep their order, each partition is still of like size."""
        if not samples or partitions < 2:
            return None
        table = promoted(list(samples))
        rows = order(table, [SortKey(str(place), key.descending) for place, key in enumerate(self.keys)])
        # The rows of a block are as many as its samples stand for; blocks without rows have no samples.
        counts = [round(sample.num_rows * sample.column(sample.num_columns - 1)[0].as_py()) for sample in samples]
        starts = np.repeat(np.cumsum(counts) - counts, [sample.num_rows for sample in samples])
        places = (starts + to_numpy(table.column(len(self.keys))))[rows]
        table = gather.take(table, rows)
        weights = np.cumsum(to_numpy(table.column(str(len(self.keys) + 1))))
        wanted = weights[-1] * np.arange(1, partitions) / partitions
        chosen = np.minimum(np.searchsorted(weights, wanted), table.num_rows - 1)
        chosen = distinct(chosen)
        bounds = gather.take(table.select(range(len(self.keys))), chosen)
        if not _has_equal_neighbours(bounds, self.keys):
            return bounds
        return bounds.append_column(str(len(self.keys)), pa.array(places[chosen]))


def _has_equal_neighbours(bounds: pa.Table, keys: Sequence[SortKey]) -> bool:
    equal = np.ones(max(0, bounds.num_rows - 1), bool)
    for column, key in zip(bounds.columns, keys):
        numbers, _, _ = _places(column, column, key)
        equal &= numbers[1:] == numbers[:-1]
    return bool(equal.any())


def _keys_table(columns: Sequence[Any]) -> pa.Table:
    return pa.table(list(columns), [str(place) for place in range(len(columns))])


@dataclass(frozen=True)
class TopRows:
    """A transform: the first rows of a part in the order of the keys, so many at most. Of rows with equal keys those
    come first that do so in the part."""

    keys: tuple[SortKey, ...]
    most: int
    texts: tuple[str, ...] = ()
    keeps_rows: bool = False

    @property
    def name(self) -> str:
        return f"Top({self.most})"

    def with_texts(self, texts: tuple[str, ...]) -> TopRows:
        return self

    def __call__(self, tables: Iterator[pa.Table], task: Any) -> Iterator[pa.Table]:
        held: list[pa.Table] = []
        rows = size = 0  # of those behind the first, which are not looked at yet
        for table in tables:
            held.append(table)
            if len(held) > 1:
                rows, size = rows + table.num_rows, size + table.nbytes
            del table
            # What is held is copied when as much has come: each row is so twice on the whole, and not with each table.
            if len(held) == 1 or rows >= self.most or size >= max(_HELD_BYTES, held[0].nbytes):
                held, rows, size = [self._first(held)], 0, 0
        if held:
            yield self._first(held) if len(held) > 1 else held[0]

    def _first(self, tables: list[pa.Table]) -> pa.Table:
        """Their first rows. It empties the list, as what was read may be large."""
        some = [table for table in tables if table.num_columns] or tables[:1]
        tables.clear()
        both = some[0] if len(some) == 1 else gather.concat(some)
        del some
        return gather.take(both, order(both, self.keys)[: self.most]) if both.num_rows else both


@dataclass(frozen=True)
class RangePartitioner(Reordering):
    """The tasks of a sort. `side`: where a row that is equal to a boundary goes, as numpy's searchsorted has it.

    bounds: values of the first keys, or of all keys and then the number of a row among all rows of the input.
    most: so many rows of each partition are wanted; None: all."""

    keys: tuple[SortKey, ...]
    bounds: pa.Table | None
    side: Any
    most: int | None = None

    @property
    def parts(self) -> int:
        return 1 if self.bounds is None else self.bounds.num_rows + 1

    def split(self, place: Place, tables: Iterator[pa.Table], task: Any) -> list[Parts]:
        found, row = [], place.row
        for table in gather.runs(list(tables)):
            found.append(self._cut(gather.combine(table), row))
            row += table.num_rows
        return found

    def _cut(self, table: pa.Table, row: int) -> Parts:
        if self.bounds is None or not table.num_rows:
            return Parts(table, np.array([0] + [table.num_rows] * self.parts))
        plain = self._plain(table)
        if plain is None:
            ids: np.ndarray = self._ids(table, row).astype(narrowest(self.parts))
            return cut_in_pieces(table, self.parts, lambda start, stop: _by_ids(ids[start:stop], self.parts))
        numbers, bounds = plain
        # Rows go to the upper side of an equal boundary where it is "right": it is then in front of the first of them.
        side: Any = "left" if self.side == "right" else "right"

        def piece(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            some = numbers[start:stop]
            order = stable_argsort(some)
            return order, np.concatenate([[0], np.searchsorted(some[order], bounds, side), [len(some)]])

        return cut_in_pieces(table, self.parts, piece)

    def _plain(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray] | None:
        """Numbers in the order of the one key, for rows and boundaries. To sort a piece of them takes a fifth of the
        time of a search for each row. None: the key is none of these, or some are null or no number."""
        assert self.bounds is not None
        if len(self.keys) > 1 or self.bounds.num_columns > 1:
            return None
        (key,), bound = self.keys, self.bounds.column(0)
        column = column_of(table, key.column)
        if column.type != bound.type or not _is_plain(column.type):
            return None
        (numbers, last), (bounds, ends) = ranked(column, key.column), ranked(bound, key.column)
        if last is not None or ends is not None:
            return None
        return (reverse(numbers), reverse(bounds)) if key.descending else (numbers, bounds)

    @property
    def looks_at(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key.column for key in self.keys))

    def order_of(self, table: Callable[[], pa.Table], rows: int, partition: int) -> np.ndarray:
        return order(table(), self.keys)[: self.most]

    def _ids(self, table: pa.Table, row: int) -> np.ndarray:
        """The number of boundaries before each row. ``row``: how many rows of the input are before the table."""
        assert self.bounds is not None
        rows: np.ndarray = np.zeros(table.num_rows, np.int64)
        bounds: np.ndarray = np.zeros(self.bounds.num_rows, np.int64)
        for place, key in enumerate(self.keys[: self.bounds.num_columns]):
            column, bound = column_of(table, key.column), self.bounds.column(place)
            here, there, size = _places(column, bound, key)
            rows, bounds = rows * size + here, bounds * size + there
            if self.bounds.num_columns > 1:
                rows, bounds = _narrowed(rows, bounds)
        if self.bounds.num_columns > len(self.keys):
            ends = to_numpy(self.bounds.column(len(self.keys)))
            size = max(row + table.num_rows, int(ends.max()) + 1)
            rows, bounds = rows * size + np.arange(row, row + table.num_rows), bounds * size + ends
        return np.searchsorted(bounds, rows, side=self.side)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether values are numbers in the order of which they are sorted, whatever others there are."""
    is_time = pa.types.is_temporal(kind) and kind.bit_width in (32, 64)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or is_time


def _by_ids(ids: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    return np.argsort(ids, kind="stable"), ends_of(ids, parts)


def _narrowed(rows: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Small numbers in the same order: by how many boundaries are before a row, and whether one is equal to it."""
    known = distinct(bounds)
    at = np.searchsorted(known, rows)
    equal = known[np.minimum(at, len(known) - 1)] == rows
    return 2 * at + equal, 2 * np.searchsorted(known, bounds) + 1


def _places(column: pa.ChunkedArray, bound: pa.ChunkedArray, key: SortKey) -> tuple[np.ndarray, np.ndarray, int]:
    """Numbers below a size in the order of the key, for the rows and for the boundaries."""
    joined = _one_type(column, bound)
    numbers, last = ranked(joined, key.column)
    count = len(column)
    ends = numbers[count:] if last is None else numbers[count:][last[count:] == 0]
    known = distinct(ends)
    at = np.searchsorted(known, numbers)
    equal = known[np.minimum(at, len(known) - 1)] == numbers if len(known) else np.zeros(len(numbers), bool)
    places, size = 2 * at + equal, 2 * len(known) + 3
    if key.descending:
        places = size - 3 - places
    if last is not None:
        places = np.where(last > 0, size - 3 + last.astype(np.int64), places)
    return places[:count], places[count:], size


def _one_type(column: pa.ChunkedArray, bound: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.type != bound.type:
        table = promoted([pa.table({"": column}), pa.table({"": bound})])
        return table.column(0)
    return pa.chunked_array([*column.chunks, *bound.chunks], column.type)
