"""Joins in the tasks that read one side, where the other is small: their rows do not go through the store before.

Reading waits until all of the other side has come. If that has few bytes, each task that reads gets it whole, joins its
rows, and does what is to be done with them then. Else the tasks only read, and the join is an exchange as any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from hpc.data.block.cut import Cutter, RowSizes, blocks_of
from hpc.data.exec.operators import Body, Operator
from hpc.data.exec.operators.exchange import ExchangeOperator
from hpc.data.exec.operators.maps import ReadOperator
from hpc.data.exec.work import Block, Part, Work
from hpc.data.plan.nodes import Options
from hpc.data.shuffle import gather
from hpc.data.shuffle.join import Joining
from hpc.data.transform.base import Transform

#: Rows are joined when they have so many times the bytes of the other side, of which all is looked at for it; or so
#: many, as a block may have.
WORTH, MOST_BYTES = 32, 128 << 20
JOINED = "joined"


class JoinedBody:
    """The rows of a part of a source, joined with all rows of the other side, which are its inputs.

    side: that of the rows that are read. before, after: what is done with the rows that are read, and with joined ones.
    """

    def __init__(
        self,
        before: Sequence[Transform],
        joining: Joining,
        side: int,
        after: Sequence[Transform],
        target_bytes: int | None,
    ) -> None:
        self.before, self.after = tuple(before), tuple(after)
        self.joining, self.side = joining, side
        self.target_bytes = target_bytes
        self._sizes = RowSizes()

    def __call__(self, inputs: list[Any], unit: Any, note: Any, task: Any) -> Iterator[Any]:
        tables: Iterator[pa.Table] = unit.read(task)
        for transform in self.before:
            tables = transform(tables, task)
        tables = self._joined(tables, gather.concat([table for table in inputs if table.num_columns]))
        for transform in self.after:
            tables = transform(tables, task)
        return blocks_of(tables, Cutter(self.target_bytes, sizes=self._sizes))

    def _joined(self, tables: Iterator[pa.Table], whole: pa.Table) -> Iterator[pa.Table]:
        most = min(WORTH * whole.nbytes, MOST_BYTES)
        held: list[pa.Table] = []
        size, is_first = 0, True
        for table in tables:
            if not table.num_columns and not table.num_rows:
                continue
            if table.num_rows or is_first:  # one is enough to tell the columns
                held.append(table)
                size += table.nbytes
            is_first = False
            del table  # or its memory is not there for the next one
            if held and size >= most:
                yield from self._pairs(held, whole)
                held, size = [], 0
        if held:
            yield from self._pairs(held, whole)

    def _pairs(self, held: list[pa.Table], whole: pa.Table) -> Iterator[pa.Table]:
        read = gather.concat(held)
        held.clear()
        left, right = (whole, read) if self.side else (read, whole)
        return self.joining.tables(left, right, by_right=self.side == 1)


class ReadPart(Part):
    """A part of a source that is joined. It runs where its files want it, and not where the other side is."""

    __slots__ = ()

    @property
    def near(self) -> str:
        return str(getattr(self.unit, "node", None) or "")


class JoiningReadOperator(ReadOperator):
    """A source whose tasks may join what they read. They begin when that is decided.

    read_bytes: how many bytes are read, about."""

    def __init__(
        self,
        name: str,
        body: Body,
        joined: Body,
        source: Any,
        parallelism: int,
        options: Options | None = None,
        read_bytes: int = 0,
    ) -> None:
        super().__init__(name, body, source, parallelism, options)
        self.bodies[JOINED] = joined
        self.read_bytes = read_bytes
        self._is_decided = False
        self._whole: tuple[Block, ...] = ()
        self._whole_bytes = 0

    @property
    def parts_wanted(self) -> int:
        """How many parts there are, about: by those that have come."""
        told, size = len(self.parts), sum(getattr(part.unit, "nbytes", None) or 0 for part in self.parts)
        if self.closed[0] or not size:
            return max(1, told, 0 if self.closed[0] else self.parallelism)
        return -(-told * max(size, self.read_bytes) // size)

    def decide(self, whole: Sequence[Block]) -> None:
        """Begin; each part is joined with all of these blocks, if there are any."""
        self._is_decided = True
        self._whole = tuple(whole)
        self._whole_bytes = sum(block.meta.nbytes for block in whole)

    def forget(self) -> None:
        """It needs the other side no more."""
        self._whole = ()

    def drop_all(self) -> list[Block]:
        self.forget()
        return super().drop_all()

    def waiting(self) -> int:
        return super().waiting() if self._is_decided else 0

    @property
    def is_over(self) -> bool:
        return self._is_decided and super().is_over

    @property
    def next_body(self) -> str:
        return JOINED if self._whole else super().next_body

    def needed_bytes(self, part: Part, body: str) -> int:
        return self._whole_bytes

    def take_work(self, most: int) -> Work:
        work = super().take_work(most)
        if not self._whole:
            return work
        parts: list[Part] = [ReadPart(part.seq, self._whole, part.unit, part.note) for part in work.parts]
        for block in self._whole:
            block.users += len(parts)
        return Work(self, parts, JOINED)


class JoinOperator(ExchangeOperator):
    """A join whose one side, ``side``, is read by tasks that can join: see the top of this file."""

    def __init__(self, *args: Any, reader: JoiningReadOperator, side: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._reader, self._side = reader, side
        #: The tasks that read do it: what they make is passed on.
        self.is_done_by_reads = False

    def accept(self, port: int, block: Block) -> None:
        if self.is_done_by_reads:
            self.pass_on(block)
        else:
            super().accept(port, block)

    def close_port(self, port: int) -> None:
        if port != self._side:
            self._decide(self._kept[port])
        if not self.is_done_by_reads:
            super().close_port(port)
            return
        Operator.close_port(self, port)
        if port == self._side:
            self._reader.forget()
            whole, self._kept = self.kept_blocks, [[] for _ in range(self.ports)]
            for block in whole:
                self.host.release(block)

    def _decide(self, other: list[Block]) -> None:
        exchange: Any = self.exchange
        size = sum(block.meta.nbytes for block in other)
        few = exchange.goes_to_reads(size, self._reader.read_bytes, self._reader.parts_wanted)
        self.is_done_by_reads = few and any(block.meta.rows for block in other)
        if self.is_done_by_reads:
            self.hoards = False
            self._reader.name = f"{self._reader.name}->{self.name}"
        self._reader.decide(other if self.is_done_by_reads else ())

    @property
    def kept_blocks(self) -> list[Block]:
        """The blocks of its inputs that it keeps: of the other side, if tasks that read do the join."""
        return [block for blocks in self._kept for block in blocks]

    @property
    def is_over(self) -> bool:
        return Operator.is_over.fget(self) if self.is_done_by_reads else super().is_over  # type: ignore[attr-defined]
