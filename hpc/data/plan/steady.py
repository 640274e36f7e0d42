"""Plans whose rows come in one order in all sessions, however many CPUs these have: it depends on data and seeds alone.

Most operators keep the order of rows. Others go by blocks, and where blocks end depends on the session: for these the
blocks are cut by rows first. Exchanges whose order depends on the number of their partitions are told so.
"""

from __future__ import annotations

from dataclasses import replace

from hpc.data.plan.chains import transform_of
from hpc.data.plan.nodes import Exchanged, Mix, Node, RandomizeBlocks, Read, Resize, walk
from hpc.data.plan.physical import CHAINED

#: Blocks that come in turns, or in a random order, have so many rows then.
ROWS = 512


def steady(node: Node) -> Node:
    """The same rows in such an order. Without `Mix`, `RandomizeBlocks` and exchanges it is the plan itself."""
    return _steady(node, {})


def _steady(node: Node, done: dict[int, tuple[Node, Node]]) -> Node:
    known = done.get(id(node))
    if known is not None:
        return known[1]
    inputs = tuple(_steady(one, done) for one in node.inputs)
    if isinstance(node, (Mix, RandomizeBlocks)):
        inputs = tuple(_cut(one) for one in inputs)
    same = all(new is old for new, old in zip(inputs, node.inputs))
    made = node if same else node.with_inputs(inputs)
    if isinstance(made, Exchanged):
        exchange = made.exchange.steady()
        made = made if exchange is made.exchange else replace(made, exchange=exchange)
    done[id(node)] = (node, made)
    return made


def _cut(node: Node) -> Node:
    is_cut = isinstance(node, Resize) and node.strict and node.rows == ROWS
    return node if is_cut else Resize(node, ROWS, strict=True)


def draws(node: Node) -> bool:
    """Whether a seed says which of the node's rows stay, or what values they get."""
    return isinstance(node, CHAINED) and _is_drawing(node)


def _is_drawing(node: Node) -> bool:
    sink = getattr(node, "sink", None)
    return sink is None and bool(getattr(transform_of(node), "draws", False))


def _goes_by_number(node: Node) -> bool:
    """Whether what becomes of a row depends on a seed and the number of the row."""
    return draws(node) or (isinstance(node, Exchanged) and getattr(node.exchange, "seed", None) is not None)


def steady_below_draws(plan: Node) -> tuple[Node, frozenset[int]]:
    """The plan, in which what rows are drawn from or shuffled by a seed comes in such an order. And the ids of the
    sources that rows are drawn from."""
    if not any(_goes_by_number(node) for node in walk(plan)):
        return plan, frozenset()
    done: dict[int, tuple[Node, Node]] = {}

    def below(node: Node) -> Node:
        if _goes_by_number(node):
            return _steady(node, done)
        inputs = tuple(below(one) for one in node.inputs)
        return node if all(new is old for new, old in zip(inputs, node.inputs)) else node.with_inputs(inputs)

    made = below(plan)
    reads = {id(read) for node in walk(made) if draws(node) for read in walk(node) if isinstance(read, Read)}
    return made, frozenset(reads)
