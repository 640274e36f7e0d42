"""Row groups that have no row for a filter, by the least and the largest value of their columns, which a footer tells.

What is known here is a comparison of a column with a value, and such ones with and, or between them. Nothing else is
opened for it. A group for which this is not known is read."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from hpc.data.expr.kernels import Operation
from hpc.data.expr.nodes import BinaryExpr, ColumnExpr, LiteralExpr

#: Whole numbers below this are exact as floats.
EXACT = 1 << 53
#: Values of these types are compared as Arrow compares them.
KINDS = (int, float, str, bytes, datetime.date, decimal.Decimal)
#: Whether a group may have a row, by the bounds of a column and the value that it is compared with.
_MAY: dict[Operation, Callable[[Any, Any, Any], bool]] = {
    Operation.LT: lambda least, largest, value: least < value,
    Operation.LE: lambda least, largest, value: least <= value,
    Operation.GT: lambda least, largest, value: largest > value,
    Operation.GE: lambda least, largest, value: largest >= value,
    Operation.EQ: lambda least, largest, value: least <= value <= largest,
}
_TURNED = {
    Operation.LT: Operation.GT, Operation.LE: Operation.GE, Operation.GT: Operation.LT, Operation.GE: Operation.LE,
    Operation.EQ: Operation.EQ,
}  # fmt: skip


def knows(expr: Any) -> bool:
    """Whether a filter is of the kind that is known here."""
    if not isinstance(expr, BinaryExpr):
        return False
    if expr.op in (Operation.AND, Operation.OR):
        return knows(expr.left) and knows(expr.right)
    return _compared(expr) is not None


def may_pass(expr: Any, group: pq.RowGroupMetaData, places: dict[str, int]) -> bool:
    """Whether a row group may have rows for a filter that is known. places: the number of each column by its name."""
    if expr.op is Operation.AND:
        return may_pass(expr.left, group, places) and may_pass(expr.right, group, places)
    if expr.op is Operation.OR:
        return may_pass(expr.left, group, places) or may_pass(expr.right, group, places)
    compared = _compared(expr)
    if compared is None:
        return True
    name, op, value = compared
    found = group.column(places[name]).statistics if name in places else None
    if found is None or not found.has_min_max:
        return True
    try:
        least, largest = found.min, found.max
        return not (_alike(least, value) and _alike(largest, value)) or _MAY[op](least, largest, value)
    except (TypeError, ValueError, ArithmeticError, NotImplementedError):  # no value of Python, as a year after 9999
        return True


def _compared(expr: BinaryExpr) -> tuple[str, Operation, Any] | None:
    """The name of the column, how it is compared, and the value; None for what is no such comparison."""
    left, right, op = expr.left, expr.right, expr.op
    if isinstance(left, LiteralExpr) and isinstance(right, ColumnExpr) and op in _TURNED:
        left, right, op = right, left, _TURNED[op]
    if not isinstance(left, ColumnExpr) or not isinstance(right, LiteralExpr) or op not in _MAY:
        return None
    return (left.name, op, right.literal) if isinstance(right.literal, KINDS) else None


def _alike(bound: Any, value: Any) -> bool:
    """Whether Python compares a bound with a value as Arrow does."""
    if type(bound) is type(value):
        return bool(bound == bound and value == value)  # NaN is no bound
    numbers = isinstance(bound, (int, float)) and isinstance(value, (int, float))
    return numbers and abs(bound) < EXACT and abs(value) < EXACT
