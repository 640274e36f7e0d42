"""Exchanges in the simulator: rows go to partitions by their hash, or by where they lie, as real exchanges have it."""

from __future__ import annotations

import random
import zlib
from itertools import pairwise
from typing import Any

from hpc.data.exec.operators import Operator
from hpc.data.exec.operators.cutting import CUT, SAMPLED, CutBody, CutExchangeOperator, CuttingReadOperator
from hpc.data.exec.operators.exchange import ExchangeOperator
from hpc.data.exec.operators.joining import JoiningReadOperator, JoinOperator
from hpc.data.exec.work import Part, Work
from hpc.data.plan.nodes import Options
from hpc.data.shuffle.exchange import Base, Gather, Need, Range
from hpc.data.shuffle.ranges import cut_rows, even_bounds

Rows = tuple[Any, ...]
#: What worlds with exchanges are made of.
KINDS = ["map", "pool", "resize", "exchange", "exchange", "join", "joined-reads", "cut-reads"]
#: And those without.
OTHER_KINDS = ["map", "map", "pool", "pool", "limit", "union", "zip", "resize", "shuffle"]


class SimPlan:
    """The plan of a simulated exchange. Its tasks are simulated, so that it has no more than a number."""

    def __init__(self, parts: int) -> None:
        self.parts = parts


class SimExchange(Base):
    """An exchange of any of the kinds that there are."""

    name = "Exchange"

    def __init__(self, draw: random.Random, inputs: int) -> None:
        self.inputs = inputs
        self.gathers = inputs == 1 and draw.random() < 0.3
        self.needs: Need = "metas" if self.gathers else draw.choice(["nothing", "metas", "samples"])
        self.wanted = draw.choice([None, 1, 5, 17])
        #: It gives the rows of its first side alone; or rows of that side may be reduced apart from each other.
        self.semi = inputs == 2 and draw.random() < 0.4
        self.few_bytes = 300 if self.needs == "samples" and inputs == 1 and self.wanted == 1 else 0
        self.divides = self.semi or (inputs == 1 and draw.random() < 0.5)
        #: Its second side goes to the tasks that read the first one.
        self.is_small = draw.random() < 0.7

    @property
    def divisible(self) -> tuple[int, ...]:
        return (0,) if self.divides else ()

    @property
    def partitions(self) -> int | None:
        return self.wanted

    def few(self, metas: Any) -> Gather:
        ranges = tuple(Range(block, 0, meta.rows) for block, meta in enumerate(metas[0]))
        return Gather(((ranges,),), SimPlan(1))  # type: ignore[arg-type]

    def plan(self, samples: Any, metas: Any, partitions: int) -> Any:
        if not self.gathers:
            return SimPlan(partitions)
        rows = [meta.rows for meta in metas[0]]
        ranges = cut_rows(rows, even_bounds(sum(rows), partitions))
        return Gather(tuple((some,) for some in ranges), SimPlan(partitions))  # type: ignore[arg-type]

    def goes_to_reads(self, size: int, others: int, tasks: int) -> bool:
        return self.is_small


def joining_read(beside: Operator, source: list[Rows]) -> Operator:
    """What reads the first side of a join with an operator."""
    reader = JoiningReadOperator("Read", _no_body, _no_body, source, -1, Options())
    reader.beside.append(beside)
    return reader


def join_of_reads(draw: random.Random, reader: Any) -> Operator:
    """The join of what it reads with an operator. It gives the rows that are read."""
    exchange = SimExchange(draw, 2)
    exchange.semi, exchange.divides, exchange.needs = True, True, "metas"
    return JoinOperator("Join", exchange, 2, reader=reader, side=0, cpus=draw.randint(1, 4))


def cutting_read(draw: random.Random, source: list[Rows]) -> Operator:
    """What reads the rows of an exchange, and cuts them."""
    sampled = draw.choice([None, _no_body])
    return CuttingReadOperator("Read", _no_body, sampled, source, -1, Options())


def exchange_of_reads(draw: random.Random) -> Operator:
    """The exchange of what such an operator reads."""
    op = exchange_operator(draw, 1, CutExchangeOperator)
    exchange: Any = op.exchange
    exchange.gathers, exchange.in_order = False, draw.random() < 0.3
    exchange.few_bytes = 0
    return op


def _read_and_cut(op: CuttingReadOperator, work: Work, part: Part) -> list[Rows] | None:
    """What the tasks of such a reader give: a sample, or one piece of rows for each group and round."""
    if work.body == "main":
        return None
    if work.body == SAMPLED:
        return [()]
    body = op.bodies[CUT]
    assert isinstance(body, CutBody)
    rows, bounds = part.unit, body.cut.bounds
    step = max(1, len(rows) if body.most_bytes is None else len(rows) // 2)
    rounds = [rows[first : first + step] for first in range(0, len(rows), step)]
    return [tuple(row for row in some if first <= _partition(row, bounds[-1]) < last)
            for some in rounds for first, last in pairwise(bounds)]  # fmt: skip


def _no_body(*_: Any) -> Any:
    raise AssertionError("bodies do not run here")


def exchange_operator(
    draw: random.Random, inputs: int, kind: type[ExchangeOperator] = ExchangeOperator
) -> ExchangeOperator:
    """An operator of a simulated exchange."""
    nodes = ["1"] * draw.randint(1, 3)
    estimate, store = draw.choice([None, 0, 1_000_000]), draw.choice([10_000, 1 << 30])
    return kind(
        "Exchange",
        SimExchange(draw, inputs),
        inputs,
        nodes=nodes,
        cpus=draw.randint(1, 4),
        store=store,
        estimate=estimate,
        least_bytes=draw.choice([100, 1000, 1 << 20]),
        most_objects=draw.choice([2, 20, 1000]),
    )


def pieces_of(op: Operator, work: Work, part: Part) -> list[Rows] | None:
    """What the tasks of an exchange give: one piece of rows for each object or block. None: it is none of these."""
    if isinstance(op, CuttingReadOperator):
        return _read_and_cut(op, work, part)
    if not isinstance(op, ExchangeOperator):
        return None
    everything = tuple(row for block in part.blocks for row in block.ref.rows)
    if work.body == "sample":
        return [()]
    if work.body == "map":
        bounds = op.bodies["map"].bounds  # type: ignore[attr-defined]
        return [tuple(row for row in everything if first <= _partition(row, bounds[-1]) < last)
                for first, last in pairwise(bounds)]  # fmt: skip
    if work.body == "merge":
        return [everything]
    if isinstance(part.note[-1], list) and len(part.note) == 3 and part.unit is None:
        _, _, ranges = part.note
        return [tuple(row for block, (start, stop) in zip(part.blocks, ranges) for row in block.ref.rows[start:stop])]
    parts = op.bodies["reduce"].merger.parts  # type: ignore[attr-defined]
    first, last, _, counts = part.note
    if op.exchange.semi:  # type: ignore[attr-defined]
        everything = tuple(row for block in part.blocks[: counts[0]] for row in block.ref.rows)
    return [tuple(row for row in everything if first <= _partition(row, parts) < last)]


def _partition(row: Any, parts: int) -> int:
    return zlib.crc32(repr(row).encode()) % parts
