"""Filters by expressions go down, into sources that can leave out rows by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from hpc.data.plan.nodes import Drop, Exchanged, Filter, Node, Options, Read, Rename, Select, Union, WithColumns

if TYPE_CHECKING:
    from hpc.data.expr.nodes import Expr

_PLAIN = Options()


def filter_early(node: Node) -> Node:
    """The node, or a filter that is as low as it can be. Its inputs have gone through this."""
    if not isinstance(node, Filter) or not node.expr.repeatable or node.options != _PLAIN:
        return node
    below, wanted = node.input, node.expr.columns()
    if isinstance(below, Select) and wanted <= set(below.columns):
        return replace(below, input=filter_early(replace(node, input=below.input)))
    if isinstance(below, Drop) and not wanted & set(below.columns):
        return replace(below, input=filter_early(replace(node, input=below.input)))
    if isinstance(below, Rename) and not wanted & {old for old, new in below.names} - {new for _, new in below.names}:
        expr = cast("Expr", node.expr.rename({new: old for old, new in below.names}))
        return replace(below, input=filter_early(replace(node, input=below.input, expr=expr)))
    if isinstance(below, WithColumns) and below.options == _PLAIN and _apart(below, wanted):
        return replace(below, input=filter_early(replace(node, input=below.input)))
    if isinstance(below, Union):
        return replace(below, nodes=tuple(filter_early(replace(node, input=one)) for one in below.nodes))
    if isinstance(below, Exchanged) and below.exchange.takes_filters:
        return replace(below, nodes=(filter_early(replace(node, input=below.nodes[0])),))
    if isinstance(below, Read):
        narrowed = below.source.with_filter(node.expr)
        if narrowed is not None:
            return replace(below, source=narrowed)
    return node


def _apart(below: WithColumns, wanted: frozenset[str]) -> bool:
    """Whether the filter looks at no column that is made there, and those do not depend on which rows there are."""
    return all(name not in wanted and expr.repeatable for name, expr in below.columns)
