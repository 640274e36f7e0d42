"""Runs a plan in this process, on tables, one node after the other: the reference for all that runs plans."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from hpc.data.block.promote import concat
from hpc.data.plan.beside import beside
from hpc.data.plan.chains import transform_of
from hpc.data.plan.nodes import (
    Blocks,
    Exchanged,
    Limit,
    Mix,
    Node,
    RandomizeBlocks,
    Read,
    Resize,
    Skip,
    Union,
    Zip,
)
from hpc.data.shuffle import local
from hpc.data.transform.base import TaskContext

#: The parts of a source where a plan does not say how many.
PARTS = 4


def interpret(plan: Node, context: Any = None, get: Callable[[Any], pa.Table] = lambda ref: ref) -> list[pa.Table]:
    """The blocks of a plan. ``get`` gives the table of a reference, for plans over blocks."""
    if isinstance(plan, Read):
        return list(_read(plan, context))
    if isinstance(plan, Blocks):
        return [get(block.ref) for block in plan.blocks]
    sides = [interpret(one, context, get) for one in plan.inputs]
    if isinstance(plan, Union):
        return [table for side in sides for table in side]
    if isinstance(plan, Zip):
        return _zipped(sides)
    if isinstance(plan, Mix):
        return list(_mixed(plan, sides))
    if isinstance(plan, Exchanged):
        return list(local.run(plan.exchange, sides, plan.partitions or PARTS))
    (tables,) = sides
    if isinstance(plan, Limit):
        return list(_first(tables, plan.rows))
    if isinstance(plan, Skip):
        table = concat(tables) if tables else pa.table({})
        return [table.slice(plan.rows)]
    if isinstance(plan, Resize):
        table = concat(tables) if tables else pa.table({})
        return [table.slice(at, plan.rows) for at in range(0, table.num_rows, plan.rows)]
    if isinstance(plan, RandomizeBlocks):
        tables = list(tables)
        random.Random(plan.seed).shuffle(tables)
        return tables
    transform = transform_of(plan)
    made = []
    for index, table in enumerate(tables):
        task = TaskContext(op=plan.name, index=index, context=context)
        made += _one(list(transform(iter([table]), task)))
    return made


def _one(tables: list[pa.Table]) -> list[pa.Table]:
    return [concat(tables)] if len(tables) > 1 else tables


def _read(plan: Read, context: Any) -> Iterator[pa.Table]:
    parallelism = plan.parallelism if plan.parallelism > 0 else PARTS
    for index, part in enumerate(plan.source.tasks(parallelism)):
        yield from _one(list(part.read(TaskContext(op=plan.name, index=index, context=context))))


def _first(tables: list[pa.Table], rows: int) -> Iterator[pa.Table]:
    for table in tables:
        if rows <= 0:
            return
        yield table.slice(0, rows)
        rows -= table.num_rows


def _zipped(sides: list[list[pa.Table]]) -> list[pa.Table]:
    whole = [concat(tables) for tables in sides if tables]
    counts = {table.num_rows for table in whole}
    if len(counts) > 1 or len(whole) < len(sides):
        raise ValueError(f"zip needs datasets with the same number of rows: there are {sorted(counts)}")
    return [beside(whole)]


def _mixed(plan: Mix, sides: list[list[pa.Table]]) -> Iterator[pa.Table]:
    given, at = list(plan.given or [0] * len(sides)), [0] * len(sides)
    while True:
        live = [port for port, side in enumerate(sides) if at[port] < len(side)]
        if not live or (plan.stop == "shortest" and len(live) < len(sides)):
            return
        port = min(live, key=lambda one: (given[one] / plan.weights[one], one))
        table = sides[port][at[port]]
        at[port] += 1
        given[port] += table.num_rows
        yield table
