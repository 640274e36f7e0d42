"""Operators whose tasks make blocks of blocks, or of the parts of a source, one after the other."""

from __future__ import annotations

from collections import deque
from typing import Any

from hpc.data.exec.operators import Body, Operator
from hpc.data.exec.waits import Wait
from hpc.data.exec.work import Block, Part, Work
from hpc.data.plan.nodes import Options, Pool


class MapOperator(Operator):
    """A chain of transforms over the blocks of its input. ``bundle_rows``: that many rows make one part, at least."""

    def __init__(
        self,
        name: str,
        body: Body,
        options: Options | None = None,
        pool: Pool | None = None,
        bundle_rows: int | None = None,
    ) -> None:
        super().__init__(name, options, pool)
        self.bodies["main"] = body
        self._bundle_rows = bundle_rows or 0
        self._bundle: list[Block] = []
        self._rows = 0
        #: How many rows have come; None where its tasks need not know the numbers of theirs.
        self.numbered: int | None = None
        self.parts: deque[Part] = deque()

    def accept(self, port: int, block: Block) -> None:
        if self._bundle_rows <= 1:
            self._add((block,))
            return
        self._bundle.append(block)
        self._rows += block.meta.rows
        if self._rows >= self._bundle_rows:
            self._close_bundle()

    def close_port(self, port: int) -> None:
        super().close_port(port)
        self._close_bundle()

    def _close_bundle(self) -> None:
        if self._bundle:
            self._add(tuple(self._bundle))
            self._bundle, self._rows = [], 0

    def _add(self, blocks: tuple[Block, ...]) -> None:
        self.parts.append(Part(self.next_seq(), blocks, None, self.numbered))
        if self.numbered is not None:
            self.numbered += sum(block.meta.rows for block in blocks)

    def waiting(self) -> int:
        return len(self.parts)

    def head_part(self) -> Part | None:
        return self.parts[0] if self.parts else None

    def take_work(self, most: int) -> Work:
        parts = self.parts
        return Work(self, [parts.popleft() for _ in range(min(most, len(parts)))])

    def drop_all(self) -> list[Block]:
        dropped = [*self._bundle, *(block for part in self.parts for block in part.blocks)]
        self._bundle, self._rows = [], 0
        self.parts.clear()
        return dropped


class ReadOperator(MapOperator):
    """The same over a source, whose parts are asked for as they are needed. It has no input."""

    def __init__(self, name: str, body: Body, source: Any, parallelism: int, options: Options | None = None) -> None:
        super().__init__(name, body, options)
        self.source = source
        self.parallelism = parallelism
        #: Parts were asked for, and have not come.
        self.asked = False
        #: Parts that have come, and that are read; bytes of those, as far as their files tell them.
        self.parts_told = self.parts_read = self.bytes_read = 0

    def units(self, units: list[Any], ended: bool) -> None:
        """Parts of the source have come, in order. ``ended``: those were the last."""
        self.asked = False
        self.parts_told += len(units)
        for unit in units:
            self.parts.append(Part(self.next_seq(), (), unit))
        if ended:
            self.closed[0] = True

    def part_over(self, work: Work, part: Part) -> None:
        self.count_read(part)
        super().part_over(work, part)

    def count_read(self, part: Part) -> None:
        """A part has been read."""
        self.parts_read += 1
        self.bytes_read += getattr(part.unit, "nbytes", None) or 0

    def why_waits(self) -> Wait:
        return Wait.LISTING if self.asked and not self.parts else Wait.INPUT


class BlocksOperator(Operator):
    """Blocks that exist already. They count for no budget, since they are there anyway."""

    def __init__(self, name: str, blocks: list[Block]) -> None:
        super().__init__(name)
        self._blocks = blocks
        self._at = 0

    def give(self, most: int) -> None:
        """Pass the next ones on."""
        until = min(len(self._blocks), self._at + most)
        for block in self._blocks[self._at : until]:
            if self.closed[0]:
                return  # what has been passed on was enough
            self.pass_on(block)
        self._at = until
        if until == len(self._blocks):
            self.closed[0] = True
            self._blocks = []

    def drop_all(self) -> list[Block]:
        self._blocks = []
        self.closed[0] = True
        return []


class SliceBody:
    """Rows of blocks, together: ``note`` has (first row, rows) for each. ``rows``: in blocks of so many."""

    def __init__(self, rows: int | None = None) -> None:
        self.rows = rows

    def __call__(self, inputs: list[Any], unit: Any, note: Any, task: Any) -> Any:
        from hpc.data.block.promote import concat

        tables = [t.slice(first, rows) for t, (first, rows) in zip(inputs, note)] if note else inputs
        table = tables[0] if len(tables) == 1 else concat(tables)
        step = self.rows or max(1, table.num_rows)
        for first in range(0, max(1, table.num_rows), step):
            yield table.slice(first, step)


class ResizeOperator(Operator):
    """The same rows in blocks of ``rows``. ``strict``: over the borders of its input's blocks."""

    def __init__(self, name: str, rows: int, strict: bool) -> None:
        super().__init__(name)
        self.bodies["main"] = SliceBody(rows)
        self._rows, self._strict = rows, strict
        self.open: list[tuple[Block, int, int]] = []
        self._have = 0
        self.parts: deque[Part] = deque()

    def accept(self, port: int, block: Block) -> None:
        first, left = 0, block.meta.rows
        if not self._strict:
            self.open.append((block, 0, left))
            self._have += left
            if self._have >= self._rows:
                self._close()
            return
        if not left:
            self.host.release(block)
            return
        block.users = 0
        while left:
            take = min(left, self._rows - self._have)
            block.users += 1
            self.open.append((block, first, take))
            self._have += take
            first, left = first + take, left - take
            if self._have == self._rows:
                self._close()

    def _close(self) -> None:
        if self.open:
            note = tuple((first, rows) for _, first, rows in self.open)
            self.parts.append(Part(self.next_seq(), tuple(block for block, _, _ in self.open), None, note))
            self.open, self._have = [], 0

    def close_port(self, port: int) -> None:
        super().close_port(port)
        self._close()

    def waiting(self) -> int:
        return len(self.parts)

    def head_part(self) -> Part | None:
        return self.parts[0] if self.parts else None

    def take_work(self, most: int) -> Work:
        return Work(self, [self.parts.popleft() for _ in range(min(most, len(self.parts)))])

    def drop_all(self) -> list[Block]:
        dropped = [*(one[0] for one in self.open), *(block for part in self.parts for block in part.blocks)]
        self.open = []
        self.parts.clear()
        return dropped


class _OneCutOperator(Operator):
    """What cuts one block of its input at most, and passes on or lets go of the others."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.bodies["main"] = SliceBody()
        #: The part that is to be cut, until its work begins.
        self._part: Part | None = None

    def waiting(self) -> int:
        return 0 if self._part is None else 1

    def head_part(self) -> Part | None:
        return self._part

    def take_work(self, most: int) -> Work:
        assert self._part is not None
        part, self._part = self._part, None
        return Work(self, [part])

    def drop_all(self) -> list[Block]:
        part, self._part = self._part, None
        return [] if part is None else [*part.blocks]


class LimitOperator(_OneCutOperator):
    """The first rows of its input. When they are there, what is above is cancelled."""

    def __init__(self, name: str, rows: int) -> None:
        super().__init__(name)
        self.left = rows

    def begin(self) -> None:
        """With no rows wanted, nothing above begins."""
        if not self.left:
            self.host.stop_inputs(self)

    def accept(self, port: int, block: Block) -> None:
        rows = block.meta.rows
        if not self.left or not rows:
            self.host.release(block)
            return
        if rows <= self.left:
            self.left -= rows
            self.pass_on(block)
        else:
            self._part = Part(self.next_seq(), (block,), None, ((0, self.left),))
            self.left = 0
        if not self.left:
            self.host.stop_inputs(self)


class SkipOperator(_OneCutOperator):
    """All rows of its input but the first. Blocks of these are let go as they come."""

    def __init__(self, name: str, rows: int) -> None:
        super().__init__(name)
        self.left = rows

    def accept(self, port: int, block: Block) -> None:
        rows = block.meta.rows
        if not self.left:
            seq = self.next_seq()  # behind the rows that are cut off
            self.tally.block(rows, block.meta.nbytes)
            self.order.add(seq, block)
            self.order.end(seq)
        elif rows <= self.left:
            self.left -= rows
            self.host.release(block)
        else:
            self._part = Part(self.next_seq(), (block,), None, ((self.left, rows - self.left),))
            self.left = 0


class OutputOperator(Operator):
    """The end: blocks for the consumer, until it has taken them."""

    def __init__(self) -> None:
        super().__init__("Output")
        self.queued: deque[Block] = deque()
        #: Bytes of blocks that the consumer has not taken.
        self.bytes = 0
        #: The block that the consumer has found lost, until it is there again.
        self.awaited: Block | None = None
        #: What the consumer has not read may have to be made again.
        self.keeps = False

    @property
    def is_over(self) -> bool:
        return super().is_over and not (self.keeps and self.queued)

    def accept(self, port: int, block: Block) -> None:
        self.queued.append(block)
        self.bytes += block.bytes
        self.tally.block(block.meta.rows, block.meta.nbytes)
        self.host.emit(block)

    def taken(self, count: int) -> list[Block]:
        """The consumer has taken the next blocks."""
        blocks = [self.queued.popleft() for _ in range(min(count, len(self.queued)))]
        for block in blocks:
            self.bytes -= block.bytes
        return blocks

    def drop_all(self) -> list[Block]:
        blocks = list(self.queued)
        self.queued.clear()
        self.bytes = 0
        return blocks
