"""Which operators of a run keep the order of their blocks: all, but where nothing can tell, or the user says so.

An order costs time where parts take unequal time. What others have made waits for the slowest, and those behind have
nothing to do. It is kept all the same, unless ``ExecutionOptions(preserve_order=False)`` is what a dataset has: results
that are others in each run are what people wonder about. A random order without a seed needs none of its input.

Without an order, too, limits have the first rows, and inputs are zipped and mixed row by row. Sorts leave equal keys as
they were, and what a seed draws is the same. So what feeds these keeps its order.
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
    free: dict[Operator, bool] = {}
    for op in reversed(ops):
        down = op.down
        if down is not None:
            free[op] = _takes_any(down, free, asked)
            op.order.keeps = not free[op]


def _takes_any(op: Operator, free: dict[Operator, bool], asked: bool) -> bool:
    """Whether it does not matter in which order blocks come into an operator."""
    if isinstance(op, OutputOperator):
        return asked
    if isinstance(op, ExchangeOperator):
        drawn = isinstance(op.exchange, RandomShuffle) and op.exchange.seed is None
        return drawn or (asked and not op.exchange.in_order)
    if isinstance(op, RandomizeOperator):
        return op.is_drawn
    if isinstance(op, MapOperator):
        return free[op] and op.numbered is None
    return free[op] and isinstance(op, (ResizeOperator, UnionOperator))
