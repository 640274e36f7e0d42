"""What an exchange is: how rows of many blocks find their partition.

An exchange runs in one of two ways, which its plan decides:

* **Split**: each map task cuts its rows into one part per partition, each reduce task merges the parts of one
  partition. The parts of some blocks are one table in the order of the partitions, with offsets. So a node takes
  its partitions of a map task as one object, and each row is moved once.
* **Gather**: no map tasks. Each partition is a list of row ranges of the input blocks, which a reduce task reads as
  they are in the store.

Nothing here runs tasks: `local.run` does it within the process, the streaming executor with tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from hpc.data.shuffle import gather
from hpc.data.shuffle.moved import Run, moved
from hpc.data.transform.base import Transform

BlockMeta: TypeAlias = Any
TaskContext: TypeAlias = Any

# What a plan needs to be made: nothing (map tasks may begin with the first block), the metas of all
# input blocks, or samples of all input blocks as well.
Need = Literal["nothing", "metas", "samples"]


@dataclass(frozen=True)
class Place:
    """Where the rows of a map task lie: side of the exchange, and the blocks and rows of that side before them.

    Meaningful where `Exchange.in_order` is true; else counted in the order of arrival.
    """

    side: int
    block: int
    row: int


@dataclass(frozen=True)
class Parts:
    """Rows of a map task in the order of the partitions: partition p is rows offsets[p] to offsets[p + 1].

    There may be several pieces of rows, each in this order, as rows of a piece are taken in a processor's caches. Then
    offsets has a row of these numbers for each piece, and piece k ends where piece k + 1 begins.

    rows: which rows of their piece they are, in that order; None: all, as they lie, in one piece. They are taken when
    they are asked for, so that a range of partitions is made in memory of its own."""

    table: pa.Table
    offsets: np.ndarray
    rows: np.ndarray | None = None

    def part(self, partition: int) -> pa.Table:
        return self.range(partition, partition + 1)

    def range(self, first: int, last: int) -> pa.Table:
        """The rows of partitions first to last - 1, piece after piece; a view, if they lie so."""
        if self.rows is not None:
            return gather.take(self.table, self._rows(first, last))
        start, stop = int(self.offsets[first]), int(self.offsets[last])
        return self.table.slice(start, stop - start)

    def stored(self, first: int, last: int) -> Any:
        """The same rows, on their way to the store: they are moved there and nowhere before."""
        if self.rows is None:
            return self.range(first, last)
        return moved([self.table], [Run([(0, *piece)], rows) for piece, rows in self._pieces(first, last)])

    def ends(self, first: int, last: int) -> np.ndarray:
        """Where each of these partitions begins and ends in each piece of `range`: pieces x (partitions + 1)."""
        return packed(np.atleast_2d(self.offsets)[:, first : last + 1])

    def _rows(self, first: int, last: int) -> np.ndarray:
        return np.concatenate([rows + begin for (begin, _), rows in self._pieces(first, last)])

    def _pieces(self, first: int, last: int) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Where each piece begins and ends, and which of its rows these partitions have."""
        assert self.rows is not None
        for begin, start, stop, end in np.atleast_2d(self.offsets)[:, [0, first, last, -1]].tolist():
            yield (begin, end), self.rows[start:stop]


def packed(ends: np.ndarray) -> np.ndarray:
    """Where partitions begin and end in pieces, when these rows alone lie one after the other."""
    sizes = ends[:, -1] - ends[:, 0]
    return ends + (np.cumsum(sizes) - sizes - ends[:, 0])[:, None]


@dataclass(frozen=True)
class Range:
    """Rows start to stop - 1 of one input block."""

    block: int
    start: int
    stop: int


class Merger(Protocol):
    """The reduce half of an exchange; picklable."""

    @property
    def parts(self) -> int:
        """The number of partitions."""

    def merge(self, sides: list[list[pa.Table]], partition: int, task: TaskContext | None) -> Iterator[pa.Table]:
        """The result of a partition, from its tables of each side in the order of the input."""


class Partitioner(Merger, Protocol):
    """A plan with map tasks."""

    def split(self, place: Place, tables: Iterator[pa.Table], task: TaskContext | None) -> list[Parts]:
        """Cut the rows of one map task: the parts of its first rows, of those behind them, and so on."""


class Reordering:
    """A merger that only puts the rows of its one side in an order. They are moved once, to where they stay.

    hidden: a column that map tasks add, which tells the order and is left behind; "" for none."""

    hidden = ""

    @property
    def looks_at(self) -> tuple[str, ...] | None:
        """The columns that tell the order; None: any."""
        return (self.hidden,) if self.hidden else None

    def order_of(self, table: Callable[[], pa.Table], rows: int, partition: int) -> np.ndarray:
        """The row numbers of a partition's rows, which are so many, in the order of the result.

        table: the columns that it looks at, of these rows."""
        raise NotImplementedError

    def merge(self, sides: list[list[pa.Table]], partition: int, task: TaskContext | None) -> Iterator[pa.Table]:
        """The rows as one table."""
        known = self.with_columns(sides[0])
        if known:
            table = gather.concat(known)
            rows = self.order_of(lambda: table, table.num_rows, partition) if table.num_rows else None
            shown = self.shown(table)
            yield shown if rows is None else gather.take(shown, rows)

    def with_columns(self, tables: list[pa.Table]) -> list[pa.Table]:
        """The tables that have columns; the first if none has any."""
        return [table for table in tables if table.num_columns > bool(self.hidden)] or tables[:1]

    def shown(self, table: pa.Table) -> pa.Table:
        """The columns of the result."""
        return table.drop_columns([self.hidden]) if self.hidden else table


@dataclass(frozen=True)
class Gather:
    """A plan without map tasks: for each partition the ranges of each side that it reads."""

    ranges: tuple[tuple[tuple[Range, ...], ...], ...]
    merger: Merger

    @property
    def parts(self) -> int:
        return len(self.ranges)


class Early(Transform, Protocol):
    """A step that is done ahead of an exchange, in the tasks that read its rows."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns that are looked at as keys alone: where they are texts, they may come as dictionaries."""

    def with_texts(self, texts: tuple[str, ...]) -> Transform:
        """The same, to which these columns may come as dictionaries."""


class Exchange(Protocol):
    """An operation over all rows; frozen and picklable."""

    @property
    def name(self) -> str:
        """For progress and errors: `Sort`, `RandomShuffle`, ..."""

    @property
    def inputs(self) -> int:
        """The number of inputs; 2 for a join, any for an alignment."""

    @property
    def needs(self) -> Need:
        """What `plan` needs. With "nothing", map tasks may start with the first block."""

    @property
    def in_order(self) -> bool:
        """The result depends on the order of the input: map tasks take blocks in order, with true places."""

    @property
    def ordered(self) -> bool:
        """The order of the partitions is the result's order."""

    @property
    def exact(self) -> bool:
        """Each table that `merge` yields is one block of the result, and is cut no further."""

    @property
    def keeps_rows(self) -> bool:
        """The rows of the result are those of its one input, in whichever order."""

    @property
    def reorders(self) -> bool:
        """Its merger is a `Reordering`: a task may put several partitions in order, so that each fits caches."""

    @property
    def sorts_pieces(self) -> bool:
        """Its map tasks put pieces in order already. So these partitions need not fit caches, but are blocks."""

    @property
    def partitions(self) -> int | None:
        """The number of partitions that the exchange must have; None: the executor chooses."""

    @property
    def must_fit(self) -> str:
        """Why all rows of a partition come to one task, and what to do where they are too many for a store."""

    @property
    def divisible(self) -> tuple[int, ...]:
        """The sides of which a part of a partition's rows may be merged by itself, with all rows of the others."""

    def fitted(self, store: int, task_bytes: int, nodes: int) -> Exchange:
        """The exchange for so many nodes, whose stores have so many bytes, of which so many should come into a task."""

    @property
    def few_bytes(self) -> int:
        """Where needs is "samples": inputs of at most so many bytes need none, but the plan that `few` gives."""

    def few(self, metas: Sequence[Sequence[BlockMeta]]) -> Gather:
        """The plan for an input of few bytes, by the metas of each side."""

    def limited(self, rows: int) -> Exchange:
        """The exchange of whose result only so many rows are wanted, the first ones. It may give more."""

    @property
    def takes_filters(self) -> bool:
        """The rows of the result that pass a filter are the result of those of the input, in the same order."""

    def columns_of(self, side: int) -> tuple[str, ...] | None:
        """The columns of an input that the result depends on; None: all."""

    def ahead(self) -> tuple[Early, Exchange] | None:
        """What can be done with the rows of each part of the only input by itself, and the exchange of what that
        gives. None: nothing."""

    def steady(self) -> Exchange:
        """The exchange whose rows come in one order, whatever the number of partitions and the size of stores."""

    @property
    def cut_by_reads(self) -> bool:
        """The rows of its one input may be cut by the tasks that read them: only `plan` and `split` look at them."""

    @property
    def columns_looked_at(self) -> tuple[str, ...]:
        """The columns that `sample` needs."""

    def sample(self, side: int, table: pa.Table, task: TaskContext | None) -> pa.Table | None:
        """A small table that `plan` wants of each input block; only where needs is "samples"."""

    def plan(
        self, samples: Sequence[Sequence[pa.Table]], metas: Sequence[Sequence[BlockMeta]], partitions: int
    ) -> Partitioner | Gather:
        """Decide how rows go; samples and metas per side, in the order of the input (empty if not needed)."""


class Base:
    """What most exchanges have in common."""

    inputs: int = 1
    needs: Need = "nothing"
    in_order: bool = False
    ordered: bool = False
    exact: bool = False
    # Whether the rows of the result are those of its one input, in whichever order.
    keeps_rows: bool = False
    must_fit: str = "Take more partitions, or blocks, so that each has fewer rows."
    reorders: bool = False
    sorts_pieces: bool = False
    # Whether a filter of the result may as well be one of its one input.
    takes_filters: bool = False
    # Whether the tasks that read its rows may cut them; and the columns of which it wants samples.
    cut_by_reads: bool = False
    columns_looked_at: tuple[str, ...] = ()
    # Where samples are needed: of how many bytes at most one task makes the result, without them.
    few_bytes: int = 0

    @property
    def partitions(self) -> int | None:
        return None

    @property
    def divisible(self) -> tuple[int, ...]:
        """The sides of which a part of a partition's rows may be merged by itself, with all rows of the others."""
        return ()

    def fitted(self, store: int, task_bytes: int, nodes: int) -> Any:
        """The exchange for so many nodes, whose stores have so many bytes, of which so many should come into a task."""
        return self

    def schema_of(self, schemas: Sequence[pa.Schema]) -> pa.Schema | None:
        """The columns of the result, from those of the inputs; None where only a run tells them."""
        return schemas[0] if self.keeps_rows else None

    def few(self, metas: Sequence[Sequence[BlockMeta]]) -> Gather:
        """The plan for an input of few bytes, by the metas of each side."""
        raise NotImplementedError

    def limited(self, rows: int) -> Any:
        """The exchange of whose result only so many rows are wanted, the first ones. It may give more."""
        return self

    def steady(self) -> Any:
        """The exchange whose rows come in one order, whatever the number of partitions and the size of stores."""
        return self

    def sample(self, side: int, table: pa.Table, task: Any) -> pa.Table | None:
        return None

    def columns_of(self, side: int) -> tuple[str, ...] | None:
        """The columns of an input that the result depends on; None: all."""
        return None

    def ahead(self) -> tuple[Early, Exchange] | None:
        """What can be done with the rows of each part of the only input by itself, and the exchange of what that
        gives. None: nothing."""
        return None
