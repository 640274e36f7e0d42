"""Exchanges of rows that are cut by the tasks that read them: no block of them goes through the store before.

Where a store cannot hold all rows, each block would be written to disk, and read again to be cut. So reading goes in
two phases. Where the plan of the exchange needs samples, the columns of its keys alone are read first, of all parts.
Then each part is read, and its tasks give the objects of the groups of partitions. A part of many bytes is cut in
rounds.

Cutting begins when all parts of the source are known, and sampled. Where the rows of each part must be known for the
plan, and are not, tasks only read, and the exchange is as any other.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from hpc.data.block.compact import compact, nbytes
from hpc.data.exec.operators import Body, Piece
from hpc.data.exec.operators.exchange import ExchangeOperator, MapBody
from hpc.data.exec.operators.maps import ReadOperator
from hpc.data.exec.work import Block, Part, Work
from hpc.data.plan.cutting import KeysRead
from hpc.data.plan.nodes import Options
from hpc.data.shuffle import gather
from hpc.data.shuffle.exchange import Exchange, Gather, Place
from hpc.data.transform.base import Transform

SAMPLED, CUT = "sampled", "cut"
#: Where rows of some part are not known, those of each are counted from here on, times its number: no two are alike.
FAR = 1 << 40
#: A round has so many times the bytes that a map task takes out of the store, as they never are in it. With a quarter
#: of that, objects had 0.5 MB, and the CPU time of a sort was a tenth more.
ROUND = 4


class SampledBody:
    """A sample of the rows of a part, by the columns that it needs. There is one in any case, to tell that it came."""

    def __init__(self, exchange: Exchange, keys: KeysRead) -> None:
        self.exchange, self.keys = exchange, keys

    def __call__(self, inputs: list[Any], unit: Any, note: Any, task: Any) -> Iterator[Piece]:
        tables: Iterator[pa.Table] = (unit.with_columns(self.keys.columns) or unit).read(task)
        for transform in self.keys.chain:
            tables = transform(tables, task)
        known = [table for table in tables if table.num_rows]
        sample = self.exchange.sample(0, gather.concat(known), task) if known else None
        sample = pa.table({}) if sample is None else compact(sample)
        yield Piece(sample, sample.num_rows, nbytes(sample))


class CutBody:
    """The rows of a part of a source, cut as `MapBody` does it; ``note`` is the `Place`.

    most_bytes: so many bytes are cut at a time; None: all of a part."""

    def __init__(self, chain: Sequence[Transform], cut: MapBody, most_bytes: int | None) -> None:
        self.chain = tuple(chain)
        self.cut = cut
        self.most_bytes = most_bytes

    def __call__(self, inputs: list[Any], unit: Any, note: Any, task: Any) -> Iterator[Piece]:
        tables: Iterator[pa.Table] = unit.read(task)
        for transform in self.chain:
            tables = transform(tables, task)
        side, block, row = note
        held: list[pa.Table] = []
        size, rows = 0, 0
        for table in tables:
            held.append(table)
            size, rows = size + table.nbytes, rows + table.num_rows
            del table  # or its memory is not there for the next one
            if self.most_bytes is not None and size >= self.most_bytes:
                yield from self.cut.cut(Place(side, block, row), emptied(held), task)
                size, rows, row = 0, 0, row + rows
        if held:
            yield from self.cut.cut(Place(side, block, row), emptied(held), task)


def emptied(tables: list[pa.Table]) -> Iterator[pa.Table]:
    """The tables of a list, which has none of them then."""
    taken = tables[:]
    tables.clear()
    return iter(taken)


class Phase(enum.Enum):
    """What the tasks of a reader do."""

    SAMPLING = "sampling"
    CUTTING = "cutting"
    READING = "reading"


class CuttingReadOperator(ReadOperator):
    """A source whose tasks cut what they read for the exchange below. ``sampled``: the body of those that read samples;
    None: none are needed."""

    hoards = True
    down: CutExchangeOperator

    def __init__(
        self,
        name: str,
        body: Body,
        sampled: Body | None,
        source: Any,
        parallelism: int,
        options: Options | None = None,
    ) -> None:
        super().__init__(name, body, source, parallelism, options)
        self.phase = Phase.SAMPLING
        self._needs_samples = sampled is not None
        if sampled is not None:
            self.bodies[SAMPLED] = sampled
        #: The samples of each part; those of parts that failed and are left out are missing.
        self._samples: dict[int, Any] = {}
        self._sampled: list[Part] = []
        #: Parts that were given to work and have not ended.
        self._begun = 0

    # -------------------------------------------------------------- phases

    def units(self, units: list[Any], ended: bool) -> None:
        super().units(units, ended)
        if not self._needs_samples:  # and not in `parts`, or no more of them were asked for
            self._sampled += self.parts
            self.parts.clear()
        self._go_on()

    def _go_on(self) -> None:
        """Have the rows cut, once all samples are there."""
        if self.phase is not Phase.SAMPLING or not self.closed[0] or self.parts or self._begun:
            return
        parts, samples = sorted(self._sampled, key=lambda part: part.seq), self._samples
        counts: list[int | None]
        self._sampled = []
        if self._needs_samples:
            parts = [part for part in parts if part.seq in samples]
            counts = [rows_of_sample(samples[part.seq]) for part in parts]
        else:
            counts = [getattr(part.unit, "rows", None) for part in parts]
        self._samples = {}
        if None in counts and self.down.exchange.in_order:
            self.phase, self.hoards = Phase.READING, False
            self.parts.extend(parts)
            return
        self.phase = Phase.CUTTING
        body = self.down.begin_cuts(parts, [samples[part.seq] for part in parts] if samples else [])
        if body is None:
            return  # its plan has failed, and so does the run
        self.bodies[CUT] = CutBody(getattr(self.bodies["main"], "transforms", ()), *body)
        row, is_known = 0, None not in counts
        for at, (part, count) in enumerate(zip(parts, counts)):
            self.parts.append(Part(part.seq, (), part.unit, (0, at, row if is_known else part.seq * FAR)))
            row += count or 0

    # -------------------------------------------------------------- work

    @property
    def next_body(self) -> str:
        return {Phase.SAMPLING: SAMPLED, Phase.CUTTING: CUT}.get(self.phase, "main")

    def take_work(self, most: int) -> Work:
        body = self.next_body
        work = super().take_work(most)
        work.body, work.wants_values = body, body == SAMPLED
        self._begun += len(work.parts)
        return work

    def made(self, work: Work, block: Block) -> None:
        if work.body == SAMPLED:
            self.host.forgo(block)
            self._samples[work.part.seq] = block.value
            self.host.release(block)
        elif work.body == CUT:
            self.host.forgo(block)
            self.down.cut_off(work.seen - 1, 0, work.part.seq, block)
        else:
            super().made(work, block)

    def part_over(self, work: Work, part: Part) -> None:
        self._begun -= 1
        if work.body == SAMPLED:
            self._sampled.append(part)
            self._go_on()
            return
        if work.body != CUT:
            super().part_over(work, part)
            return
        self.count_read(part)

    def is_head(self, work: Work) -> bool:
        return work.body in (SAMPLED, CUT) or super().is_head(work)

    @property
    def is_over(self) -> bool:
        return self.phase in (Phase.CUTTING, Phase.READING) and super().is_over

    def drop_all(self) -> list[Block]:
        self._samples, self._sampled = {}, []
        return super().drop_all()


def rows_of_sample(sample: pa.Table | None) -> int:
    """How many rows a sample stands for: its last column says how many each of its rows does."""
    if sample is None or not sample.num_rows:
        return 0
    return round(sample.num_rows * sample.column(sample.num_columns - 1)[0].as_py())


class CutExchangeOperator(ExchangeOperator):
    """An exchange whose rows are cut by the tasks that read them, if it comes to that: see the top of this file."""

    def _is_few(self) -> bool:
        """Its rows are in no block that one task could gather, however few they are."""
        return False

    def begin_cuts(self, parts: Sequence[Part], samples: Sequence[Any]) -> tuple[MapBody, int | None] | None:
        """The plan is made, by these parts and their samples. How they are cut; None if that has failed."""
        most = ROUND * self._bundle_bytes()
        sizes = [getattr(part.unit, "nbytes", None) or most for part in parts]
        self._seen_bytes, self._seen_blocks = max(self._estimate or 0, sum(sizes)), len(parts)
        self._numbers[0] = [part.seq for part in parts]
        self._cut_parts = max(1, sum(-(-size // most) for size in sizes))
        self.samples[0] = [[sample] for sample in samples if sample is not None and sample.num_rows]
        self._make_plan()
        if self.error is not None or isinstance(self._plan, Gather):
            return None
        cut = self.bodies["map"]
        assert isinstance(cut, MapBody)
        return cut, None if self._merged else most
