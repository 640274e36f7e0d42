"""Where datasets meet the session: a plan begins to run, a table becomes an object, an object is a table again."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

import hpc
from hpc.data.block import compact
from hpc.data.block.meta import BlockMeta
from hpc.data.context import DataContext
from hpc.data.exec import execution
from hpc.data.exec.execution import Execution
from hpc.data.plan.nodes import BlockHandle, Node


def begin(plan: Node, context: DataContext, name: str | None = None) -> Execution:
    """Begin a run of a plan."""
    context.execution_options.validate()
    return execution.execute(plan, context, name)


def put(table: pa.Table) -> BlockHandle:
    """A table as a block in the object store."""
    table = compact.compact(table)
    return BlockHandle(hpc.put(table), meta_of(table))


def get(handle: BlockHandle) -> pa.Table:
    """The table of a block: a view of the node's store."""
    table: pa.Table = hpc.get(handle.ref)
    return table


def meta_of(table: pa.Table) -> BlockMeta:
    """What is to be told of a table."""
    return BlockMeta(table.num_rows, compact.nbytes(table), table.schema.serialize().to_pybytes())


def described(ref: Any) -> BlockHandle:
    """A table that a user has put into the store, as a block. It is looked at where it lies."""
    return BlockHandle(ref, hpc.get(hpc.remote(meta_of).remote(ref)))
