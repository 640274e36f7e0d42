"""Rows in random order within a window, while they stream.

A window of row numbers is kept, not of rows. Each batch draws some of them, and the next rows take their places; only
then the rows of the batch are copied, once. The order follows from the rows, the window, the batch size and the seed,
not from the blocks in which the rows come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import promote
from hpc.data.block.bare import names
from hpc.data.block.batch import column_to_numpy
from hpc.data.block.flat import distinct, row_numbers
from hpc.data.block.views import rows_of
from hpc.data.consume.views import Views, pieces

#: A row number has its block above these bits, and its place in the block below.
BITS = 32
#: A block of which less than this part is left is copied, so that a few rows do not keep all of it in memory.
SPARSE = 0.25


@dataclass(frozen=True)
class LocalShuffle:
    """The window of a shuffle in rows, and its seed."""

    rows: int
    seed: int | None = None


class Window:
    """The rows from which a batch is drawn."""

    def __init__(self, shuffle: LocalShuffle, batch_size: int) -> None:
        self.size = max(shuffle.rows, batch_size)
        self.batch_size = batch_size
        self.random = np.random.default_rng(shuffle.seed)
        self.ids = np.empty(self.size, dtype=np.int64)
        self.filled = 0
        self.blocks: dict[int, Views] = {}
        self.left: dict[int, int] = {}
        self.next_block = 0
        #: Rows that have come, and have no place in the window yet: block, first and last row.
        self.waiting: list[list[int]] = []
        self.waiting_rows = 0

    def add(self, views: Views) -> None:
        """Let the rows of a block wait for their places."""
        number = self.next_block
        self.next_block += 1
        self.blocks[number] = views
        self.left[number] = views.rows
        self.waiting.append([number, 0, views.rows])
        self.waiting_rows += views.rows

    def ready(self) -> bool:
        """Whether a batch may be drawn: the window will be full before it and after it."""
        return self.filled + self.waiting_rows >= self.size + self.batch_size

    def draw(self) -> np.ndarray:
        """The row numbers of the next batch; fewer than a batch at the end."""
        self.filled += self._fill(self.ids[self.filled :])
        count = min(self.batch_size, self.filled)
        places = self.random.choice(self.filled, count, replace=False)
        drawn = self.ids[places]
        came = self._fill_places(places)
        if came < count:
            self._close(places[came:])
        return drawn

    def _close(self, holes: np.ndarray) -> None:
        """Take places out of the window: the last rows move into them."""
        self.filled -= len(holes)
        behind = holes[holes >= self.filled] - self.filled
        stays = np.ones(len(holes), dtype=bool)
        stays[behind] = False
        self.ids[holes[holes < self.filled]] = self.ids[self.filled : self.filled + len(holes)][stays]

    def _fill_places(self, places: np.ndarray) -> int:
        fresh = np.empty(len(places), dtype=np.int64)
        came = self._fill(fresh)
        self.ids[places[:came]] = fresh[:came]
        return came

    def _fill(self, target: np.ndarray) -> int:
        """Write the numbers of waiting rows into an array. Returns how many there were."""
        done = 0
        while done < len(target) and self.waiting:
            first = self.waiting[0]
            number, start, stop = first
            count = min(stop - start, len(target) - done)
            target[done : done + count] = np.arange(start, start + count) + (number << BITS)
            done += count
            if start + count == stop:
                self.waiting.pop(0)
            else:
                first[1] += count
        self.waiting_rows -= done
        return done

    def parts(self, drawn: np.ndarray) -> list[tuple[Views, np.ndarray, np.ndarray]]:
        """For each block with rows of the batch: the block, its rows, and their places in the batch."""
        numbers = drawn >> BITS
        rows = drawn & ((1 << BITS) - 1)
        found = []
        for number in distinct(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            found.append((self.blocks[number], rows[places], places))
            self.left[number] -= len(places)
        return found

    def tidy(self) -> None:
        """Drop blocks without rows, and copy the rows of those that have few left."""
        for number, left in list(self.left.items()):
            if not left:
                del self.left[number], self.blocks[number]
        waits = {number for number, _, _ in self.waiting}
        sparse = [
            number
            for number, left in self.left.items()
            if number not in waits and left < SPARSE * self.blocks[number].rows and self.blocks[number].rows > 64
        ]
        if sparse:
            self._compact(sparse)

    def _compact(self, sparse: list[int]) -> None:
        ids = self.ids[: self.filled]
        numbers = ids >> BITS
        for number in sparse:
            places = np.flatnonzero(numbers == number)
            rows = ids[places] & ((1 << BITS) - 1)
            self.blocks[number] = Views(rows_of(self.blocks[number].table, row_numbers(rows)))
            self.ids[places] = np.arange(len(places)) + (number << BITS)


def shuffled(
    tables: Iterator[pa.Table], batch_size: int, shuffle: LocalShuffle, drop_last: bool, as_numpy: bool
) -> Iterator[Any]:
    """Batches of exactly so many rows, drawn from the window: dicts of arrays, or tables."""
    window = Window(shuffle, batch_size)
    gather = gather_numpy if as_numpy else gather_table
    for views in pieces(tables):
        window.add(views)
        while window.ready():
            yield gather(window.parts(window.draw()))
            window.tidy()
    while window.filled + window.waiting_rows >= batch_size:
        yield gather(window.parts(window.draw()))
        window.tidy()
    if window.filled + window.waiting_rows and not drop_last:
        yield gather(window.parts(window.draw()))


Gathered = list[tuple[Views, np.ndarray, np.ndarray]]


def gather_table(parts: Gathered) -> pa.Table:
    """The table of rows of several blocks, each at its place."""
    taken = [rows_of(views.table, row_numbers(rows)) for views, rows, _ in parts]
    if len(taken) == 1:
        return taken[0]
    order = np.empty(sum(len(rows) for _, rows, _ in parts), dtype=np.int64)
    order[np.concatenate([places for _, _, places in parts])] = np.arange(len(order))
    return rows_of(promote.concat(taken).combine_chunks(), row_numbers(order))


def gather_numpy(parts: Gathered) -> dict[str, Any]:
    """The batch of rows of several blocks as arrays; each number is copied once."""
    first = parts[0][0]
    if any(not views.table.schema.equals(first.table.schema) for views, _, _ in parts[1:]):
        table = gather_table(parts)
        return {name: column_to_numpy(table.column(name)) for name in names(table.schema)}
    plain = [name for name in first.arrays if all(name in views.arrays for views, _, _ in parts)]
    count = sum(len(rows) for _, rows, _ in parts)
    made: dict[str, Any] = {}
    for name in plain:
        array = first.arrays[name]
        if len(parts) == 1:
            made[name] = array[parts[0][1]]
            continue
        whole = np.empty((count, *array.shape[1:]), dtype=array.dtype)
        for views, rows, places in parts:
            whole[places] = views.arrays[name][rows]
        made[name] = whole
    others = [name for name in names(first.table.schema) if name not in made]
    if others:
        table = gather_table([(Narrow(views.table.select(others)), rows, places) for views, rows, places in parts])
        made |= {name: column_to_numpy(table.column(name)) for name in others}
    return {name: made[name] for name in names(first.table.schema)}


class Narrow(Views):
    """Some columns of a block, of which no views are made."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.rows = table.num_rows
        self.arrays = {}
        self.slow = table.column_names
