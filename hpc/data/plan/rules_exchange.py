"""What an exchange does not need does not reach it: columns, and rows that states can stand for."""

from __future__ import annotations

from dataclasses import replace

from hpc.data.plan.nodes import Apply, Exchanged, Node
from hpc.data.plan.rules_project import only


def combine_early(node: Node) -> Node:
    """The exchange over fewer columns, and over what can be made of each part of its input by itself.

    The latter runs in the tasks that read the rows, so that those never go through the store."""
    if not isinstance(node, Exchanged):
        return node
    wanted = [_columns(node, side) for side in range(len(node.nodes))]
    inputs = tuple(one if names is None else only(one, names) for one, names in zip(node.nodes, wanted))
    ahead = getattr(node.exchange, "ahead", lambda: None)()
    if ahead is None or len(inputs) > 1:
        return replace(node, nodes=inputs)
    transform, exchange = ahead
    return replace(node, nodes=(Apply(inputs[0], transform),), exchange=exchange)


def _columns(node: Exchanged, side: int) -> dict[str, None] | None:
    names = getattr(node.exchange, "columns_of", lambda side: None)(side)
    return dict.fromkeys(names) if names else None
