"""Nodes as the transforms that tasks run."""

from __future__ import annotations

import uuid

from hpc.data.plan.nodes import Apply, Drop, Filter, Node, Rename, Select, WithColumns, Write
from hpc.data.transform import columns
from hpc.data.transform.base import Transform
from hpc.data.transform.limit import Limit as PartLimit


def transform_of(node: Node) -> Transform:
    """What a task does for a node that takes one row or batch after the other."""
    if isinstance(node, Apply):
        return node.transform
    if isinstance(node, Filter):
        return columns.FilterExpr(node.expr)
    if isinstance(node, Select):
        return columns.Select(node.columns)
    if isinstance(node, Drop):
        return columns.Drop(node.columns)
    if isinstance(node, Rename):
        return columns.Rename(dict(node.names))
    if isinstance(node, WithColumns):
        return columns.WithColumns(node.columns)
    if isinstance(node, Write):
        return node.sink.transform(uuid.uuid4().hex)
    raise TypeError(f"{node.name} is no transform")


def limit_of(rows: int) -> Transform:
    """The first rows of a part."""
    return PartLimit(rows)
