"""Limits go down to where rows come from: what is not wanted is not made."""

from __future__ import annotations

from dataclasses import replace

from hpc.data.plan.nodes import Apply, Drop, Exchanged, Limit, Node, Read, Rename, Select, Union, WithColumns


def limit_early(node: Node) -> Node:
    """The node, or a limit that is as low as it can be. Its inputs have gone through this."""
    if not isinstance(node, Limit):
        return node
    below = node.input
    if isinstance(below, Limit):
        return limit_early(replace(below, rows=min(node.rows, below.rows)))
    if keeps_rows(below):
        (only,) = below.inputs
        return below.with_inputs((limit_early(replace(node, input=only)),))
    if isinstance(below, Union):
        # Each branch gives no more than all may together.
        branches = tuple(one if _limited(one, node.rows) else limit_early(Limit(one, node.rows)) for one in below.nodes)
        return replace(node, input=replace(below, nodes=branches))
    if isinstance(below, Exchanged):
        exchange = below.exchange.limited(node.rows)
        return node if exchange is below.exchange else replace(node, input=replace(below, exchange=exchange))
    if isinstance(below, Read):
        narrowed = below.source.with_limit(node.rows)
        if narrowed is not None:
            return replace(node, input=replace(below, source=narrowed))
    return node


def _limited(node: Node, rows: int) -> bool:
    while keeps_rows(node):
        (node,) = node.inputs
    return isinstance(node, Limit) and node.rows <= rows


def keeps_rows(node: Node) -> bool:
    """Whether each row of its input gives one row, in the same order, whichever rows come after it."""
    if isinstance(node, (Select, Drop, Rename)):
        return True
    if isinstance(node, WithColumns):
        return all(expr.repeatable for _, expr in node.columns)
    return isinstance(node, Apply) and node.repeatable and bool(node.transform.keeps_rows)
