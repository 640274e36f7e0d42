"""The order of rows that depends on a seed and the epoch alone, and each rank's part of it.

    pieces of the source, permuted -> their rows -> windows of rows, permuted -> global batches -> a part for each rank

So the rows of all ranks together come in the same order with each number of ranks, and from any row on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from hpc.data.block import promote
from hpc.data.block.flat import row_numbers
from hpc.data.block.views import rows_of
from hpc.data.consume.sharing import Equal


class Order(NamedTuple):
    """``seed`` None is the order of the source. ``window``: rows are permuted among so many neighbours."""

    seed: int | None
    epoch: int
    window: int

    def pieces(self, count: int, leaf: int = 0) -> np.ndarray:
        """The order of the pieces of a source: of the first one of a plan, or of the one of this number."""
        if self.seed is None:
            return np.arange(count)
        return np.random.default_rng((self.seed, self.epoch, 0, *([leaf] if leaf else []))).permutation(count)

    def key(self, *words: int) -> int:
        """A number of 62 bits out of others. It follows from seed and epoch where there is a seed; from the last of the
        numbers in any case."""
        own = words if self.seed is None else (self.seed, self.epoch, words[0], 0, *words[2:])
        return int(np.random.SeedSequence(own).generate_state(1, np.uint64)[0] >> np.uint64(2))

    def rows(self, number: int, count: int) -> np.ndarray:
        """The order of the rows of a window."""
        if self.seed is None:
            return np.arange(count)
        return np.random.default_rng((self.seed, self.epoch, 1, number)).permutation(count)

    def window_of(self, row: int) -> tuple[int, int]:
        """The window that a row of the order is in, and the first row of that window."""
        size = 1 if self.seed is None else self.window
        return row // size, row // size * size


class Part(NamedTuple):
    """Some rows of a table, which are taken when they are needed."""

    table: pa.Table
    rows: np.ndarray


class RankRows:
    """This rank's rows of a stream that has the rows of all ranks.

    ``batch``: rows of a global batch, a multiple of ``ranks``; rank r gets the r-th part of each. ``start``: the first
    row of the order that is wanted. The stream begins with the first row of the window that it is in.
    The last batch may be shorter: each rank gets as many rows of it. With ``equal`` "drop" less than ``ranks`` rows are
    left out. With "pad" as many come twice as are missing, and with False the first ranks get one more."""

    def __init__(self, order: Order, rank: int, ranks: int, batch: int, start: int = 0, equal: Equal = "drop") -> None:
        self._equal = equal
        self.order, self.rank, self.ranks, self.batch = order, rank, ranks, batch
        self._number, first = order.window_of(start)
        self._skip = start - first
        self._coming: list[pa.Table] = []
        self._coming_rows = 0
        self._parts: list[Part] = []
        self._rows = 0

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        """The next rows of the stream. Gives this rank's rows of the batches that are full by now."""
        if self.order.seed is None:
            self._append(table, np.arange(table.num_rows))
            yield from self._full()
            return
        while table.num_rows:
            taken = min(self.order.window - self._coming_rows, table.num_rows)
            self._coming.append(table.slice(0, taken))
            self._coming_rows += taken
            table = table.slice(taken)
            if self._coming_rows == self.order.window:
                self._permute()
                yield from self._full()

    def end(self) -> Iterator[pa.Table]:
        """The stream has ended: this rank's rows of what is left."""
        if self._coming_rows:
            self._permute()
        yield from self._full()
        mine = self._of_rest(self._rows)
        if len(mine):
            again = np.flatnonzero(np.diff(mine) < 0) + 1  # from there on rows come once more
            yield promote.concat([self._take(some) for some in np.split(mine, again)])
        self._parts, self._rows = [], 0

    def _of_rest(self, rows: int) -> np.ndarray:
        """This rank's places in the last batch. They ascend, but for those that come twice."""
        each, more = divmod(rows, self.ranks)
        if self._equal == "pad" and more:
            return np.arange(self.rank * (each + 1), (self.rank + 1) * (each + 1)) % rows
        if not self._equal:
            first = self.rank * each + min(self.rank, more)
            return np.arange(first, first + each + (self.rank < more))
        return np.arange(self.rank * each, (self.rank + 1) * each)

    def _permute(self) -> None:
        table = promote.concat(self._coming)
        self._append(table, self.order.rows(self._number, table.num_rows)[self._skip :])
        self._number, self._skip = self._number + 1, 0
        self._coming, self._coming_rows = [], 0

    def _append(self, table: pa.Table, rows: np.ndarray) -> None:
        if len(rows):
            self._parts.append(Part(table, rows))
            self._rows += len(rows)

    def _full(self) -> Iterator[pa.Table]:
        count = self._rows // self.batch
        if not count:
            return
        each = self.batch // self.ranks
        mine = np.arange(self.rank * each, (self.rank + 1) * each)
        yield self._take((np.arange(count)[:, None] * self.batch + mine).ravel())
        self._forget(count * self.batch)

    def _take(self, places: np.ndarray) -> pa.Table:
        """The rows at these places of what waits; the places ascend."""
        found, before = [], 0
        for table, rows in self._parts:
            here = places[np.searchsorted(places, before) : np.searchsorted(places, before + len(rows))] - before
            before += len(rows)
            if len(here):
                wanted = rows[here]
                neighbours = wanted[-1] - wanted[0] == len(wanted) - 1 and bool((np.diff(wanted) == 1).all())
                found.append(
                    table.slice(int(wanted[0]), len(wanted)) if neighbours else rows_of(table, row_numbers(wanted))
                )
        return promote.concat(found)

    def _forget(self, count: int) -> None:
        self._rows -= count
        while count:
            table, rows = self._parts[0]
            if len(rows) <= count:
                count -= len(rows)
                self._parts.pop(0)
            else:
                self._parts[0] = Part(table, rows[count:])
                return
