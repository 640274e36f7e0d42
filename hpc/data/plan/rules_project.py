"""Columns that nobody wants are not made, and not read."""

from __future__ import annotations

from dataclasses import replace

from hpc.data.plan.nodes import Drop, Filter, Limit, Node, Read, Rename, Select, Union, WithColumns


def select_early(node: Node) -> Node:
    """The node, or a selection of columns after which nothing is made that it does not want."""
    if not isinstance(node, Select) or not node.columns:
        return node
    below = node.input
    if isinstance(below, Select) and set(node.columns) <= set(below.columns):
        return select_early(replace(node, input=below.input))
    return replace(node, input=only(below, dict.fromkeys(node.columns)))


def only(node: Node, wanted: dict[str, None]) -> Node:
    """A node that gives these columns at least, and fewer others than it did. What is not there stays an error."""
    if isinstance(node, Read):
        return _narrowed(node, list(wanted))
    if isinstance(node, Union):
        return replace(node, nodes=tuple(only(one, wanted) for one in node.nodes))
    if isinstance(node, Limit):
        return replace(node, input=only(node.input, wanted))
    if isinstance(node, Filter):
        return replace(node, input=only(node.input, {**wanted, **_sorted(node.expr.columns())}))
    if isinstance(node, WithColumns):
        kept = tuple((name, expr) for name, expr in node.columns if name in wanted or not expr.repeatable)
        made = {name for name, _ in kept}
        below = {name: None for name in wanted if name not in made}
        for _, expr in kept:
            below.update(_sorted(expr.columns()))
        if not below:
            return node if len(kept) == len(node.columns) else replace(node, columns=kept)
        return replace(node, columns=kept, input=only(node.input, below)) if kept else only(node.input, below)
    if isinstance(node, Rename):
        old = {new: before for before, new in node.names}
        gone = set(old.values()) - set(old)
        if gone & set(wanted):
            return node  # a name that is not there any more: an error when it runs
        below = dict.fromkeys([*(old.get(name, name) for name in wanted), *old.values()])
        return replace(node, input=only(node.input, below))
    if isinstance(node, Select):
        if not set(wanted) <= set(node.columns):
            return node
        return replace(node, columns=tuple(name for name in node.columns if name in wanted), input=node.input)
    if isinstance(node, Drop):
        return node if set(wanted) & set(node.columns) else replace(node, input=only(node.input, _both(wanted, node)))
    return node


def _both(wanted: dict[str, None], node: Drop) -> dict[str, None]:
    """With the columns that are dropped: that one is not there is an error."""
    return {**wanted, **dict.fromkeys(node.columns)}


def _sorted(names: frozenset[str]) -> dict[str, None]:
    return dict.fromkeys(sorted(names))


def _narrowed(read: Read, names: list[str]) -> Node:
    schema = read.source.schema()
    if schema is not None and not set(names) <= set(schema.names):
        return read  # the error comes when it runs, as without this rule
    source = read.source.with_columns(names)
    return read if source is None else replace(read, source=source)
