"""What an exchange does not need does not reach it: columns, and rows that states can stand for."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from hpc.data.plan.nodes import Apply, Drop, Exchanged, Filter, Node, Read, Select, WithColumns
from hpc.data.plan.rules_project import only


def combine_early(node: Node) -> Node:
    """The exchange over fewer columns, and over what can be made of each part of its input by itself.

    The latter runs in the tasks that read the rows, so that those never go through the store."""
    if not isinstance(node, Exchanged):
        return node
    wanted = [_columns(node, side) for side in range(len(node.nodes))]
    inputs = tuple(one if names is None else only(one, names) for one, names in zip(node.nodes, wanted))
    ahead = node.exchange.ahead()
    if ahead is None or len(inputs) > 1:
        return replace(node, nodes=inputs)
    transform, exchange = ahead
    below, texts = _with_dictionaries(inputs[0], frozenset(transform.texts))
    return replace(node, nodes=(Apply(below, transform.with_texts(texts)),), exchange=exchange)


def _with_dictionaries(node: Node, keys: frozenset[str]) -> tuple[Node, tuple[str, ...]]:
    """The same, whose source may give these columns of texts as dictionaries where nothing on the way looks at them;
    and those columns."""
    if isinstance(node, Read):
        schema = node.source.schema() if keys else None
        texts = tuple(name for name in sorted(keys) if schema is not None and _is_text(schema, name))
        source = node.source.with_dictionaries(list(texts)) if texts else None
        return (node, ()) if source is None else (replace(node, source=source), texts)
    if isinstance(node, Filter):
        keys -= node.expr.columns()
    elif isinstance(node, WithColumns):
        keys -= {name for name, _ in node.columns}.union(*(expr.columns() for _, expr in node.columns))
    elif not isinstance(node, (Select, Drop)):
        return node, ()
    below, texts = _with_dictionaries(node.input, keys)
    return replace(node, input=below), texts


def _is_text(schema: pa.Schema, name: str) -> bool:
    return schema.get_field_index(name) >= 0 and schema.field(name).type in (pa.string(), pa.binary())


def _columns(node: Exchanged, side: int) -> dict[str, None] | None:
    names = node.exchange.columns_of(side)
    return dict.fromkeys(names) if names else None
