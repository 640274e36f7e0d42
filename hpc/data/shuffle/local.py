"""Runs an exchange within the process, on tables: for tests, and for the reference interpreter of plans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hpc.data.shuffle.exchange import Exchange, Gather, Partitioner, Parts, Place


@dataclass(frozen=True)
class _Meta:
    """What plans look at of the metas of blocks."""

    rows: int
    nbytes: int


def run(
    exchange: Exchange, sides: Sequence[Sequence[pa.Table]], partitions: int = 4, bundle: int = 1
) -> Iterator[pa.Table]:
    """The result of an exchange over the blocks of each side, `bundle` blocks to a map task.

    Yields the tables of partition 0 first, then those of partition 1, and so on.
    """
    samples: list[list[pa.Table]] = [[] for _ in sides]
    if exchange.needs == "samples":
        taken = [[exchange.sample(side, block, None) for block in blocks] for side, blocks in enumerate(sides)]
        samples = [[sample for sample in some if sample is not None] for some in taken]
    metas = [[_Meta(block.num_rows, block.nbytes) for block in blocks] for blocks in sides]
    plan = exchange.plan(samples, metas, exchange.partitions or partitions)
    if isinstance(plan, Gather):
        for partition, ranges in enumerate(plan.ranges):
            read = [
                [blocks[r.block].slice(r.start, r.stop - r.start) for r in some] for some, blocks in zip(ranges, sides)
            ]
            yield from plan.merger.merge(read, partition, None)
    else:
        yield from _split(plan, sides, bundle)


def _split(plan: Partitioner, sides: Sequence[Sequence[pa.Table]], bundle: int) -> Iterator[pa.Table]:
    parts: list[list[Parts]] = [[] for _ in sides]
    for side, blocks in enumerate(sides):
        row = 0
        for first in range(0, len(blocks), bundle):
            tables = blocks[first : first + bundle]
            parts[side].extend(plan.split(Place(side, first, row), iter(tables), None))
            row += sum(table.num_rows for table in tables)
    for partition in range(plan.parts):
        yield from plan.merge([[p.part(partition) for p in some] for some in parts], partition, None)
