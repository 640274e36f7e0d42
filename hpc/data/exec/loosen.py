"""Which operators of a run keep the order of their blocks: all, but where nothing can tell, or the user says so.

An order costs time where parts take unequal time. What others have made waits for the slowest, and those behind have
nothing to do. It is kept all the same, unless ``ExecutionOptions(preserve_order=False)`` is what a dataset has: results
that are others in each run are what people wonder about. A random order without a seed needs none of its input.

Without an order, too, limits have the first rows, and inputs are zipped and mixed row by row. Sorts leave equal keys as
they were, and what a seed draws is the same. So what feeds these keeps its order. What comes of a sort or a seed keeps
the order that it has from there, through all steps behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpc.data.exec.operators import Operator
from hpc.data.exec.operators.combine import RandomizeOperator, UnionOperator
from hpc.data.exec.operators.exchange import ExchangeOperator
from hpc.data.exec.operators.maps import MapOperator, OutputOperator, ResizeOperator
from hpc.data.shuffle.random import RandomShuffle


def loosen(ops: Sequence[Operator], asked: bool) -> None:
    """``ops``: inputs before what uses them. asked: the user wants no order of the result."""
    never_seen, unwanted = _free(ops, False), _free(ops, asked)
    ordered: set[Operator] = set()
    for op in ops:
        if _makes_order(op) or (not isinstance(op, ExchangeOperator) and not ordered.isdisjoint(op.ups)):
            ordered.add(op)
        op.order.keeps = not (op in never_seen or (op in unwanted and op not in ordered))


def _free(ops: Sequence[Operator], asked: bool) -> set[Operator]:
    """The operators for which it does not matter to what follows in which order their blocks come."""
    free: set[Operator] = set()
    for op in reversed(ops):
        if op.down is not None and _takes_any(op.down, free, asked):
            free.add(op)
    return free


def _makes_order(op: Operator) -> bool:
    """Whether rows come in an order that the user has asked for: sorted, or as a seed draws them."""
    if isinstance(op, ExchangeOperator):
        return op.exchange.in_order
    return isinstance(op, RandomizeOperator) and not op.is_drawn


def _takes_any(op: Operator, free: set[Operator], asked: bool) -> bool:
    """Whether it does not matter in which order blocks come into an operator."""
    if isinstance(op, OutputOperator):
        return asked
    if isinstance(op, ExchangeOperator):
        drawn = isinstance(op.exchange, RandomShuffle) and op.exchange.seed is None
        return drawn or (asked and not op.exchange.in_order)
    if isinstance(op, RandomizeOperator):
        return op.is_drawn
    if isinstance(op, MapOperator):
        return op in free and op.numbered is None
    return op in free and isinstance(op, (ResizeOperator, UnionOperator))
