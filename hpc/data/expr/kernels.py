"""What operators do with columns: Arrow's functions, and Ray's meaning where Arrow has none."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block.nanoseconds import python_value


class Operation(Enum):
    """The operators of expressions."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    MOD = "mod"
    FLOORDIV = "floordiv"
    GT = "gt"
    LT = "lt"
    GE = "ge"
    LE = "le"
    EQ = "eq"
    NE = "ne"
    AND = "and"
    OR = "or"
    NOT = "not"
    IS_NULL = "is_null"
    IS_NOT_NULL = "is_not_null"
    IN = "in"
    NOT_IN = "not_in"


COLUMNS = (pa.Array, pa.ChunkedArray)


def add(left: Any, right: Any) -> Any:
    """The sum; of texts, one behind the other."""
    if _is_text(left) or _is_text(right):
        return pc.binary_join_element_wise(_text(left), _text(right), "")
    return pc.add(left, right)


def _is_text(value: Any) -> bool:
    if isinstance(value, (*COLUMNS, pa.Scalar)):
        kind = value.type.value_type if pa.types.is_dictionary(value.type) else value.type
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return isinstance(value, str)


def _text(value: Any) -> Any:
    if not _is_text(value):
        kind = value.type if isinstance(value, (*COLUMNS, pa.Scalar)) else type(value).__name__
        raise TypeError(f"only text can be added to text, not {kind}: cast it to DataType.string()")
    if isinstance(value, COLUMNS) and pa.types.is_dictionary(value.type):
        return value.cast(value.type.value_type)
    return value


def floordiv(left: Any, right: Any) -> Any:
    """The quotient, rounded down, as a float. The quotient of integers has lost its fraction before."""
    return pc.floor(pc.divide(left, right))


def mod(left: Any, right: Any) -> Any:
    """What is left after `floordiv`."""
    return pc.subtract(left, pc.multiply(floordiv(left, right), right))


def is_in(left: Any, right: Any) -> Any:
    """Whether a cell is one of the values."""
    if isinstance(right, pa.Scalar):
        right = python_value(right)
    if not isinstance(right, COLUMNS):
        try:
            right = pa.array(right, left.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            right = pa.array(right)
    return pc.is_in(left, right)


def not_in(left: Any, right: Any) -> Any:
    """Whether a cell is none of the values."""
    return pc.invert(is_in(left, right))


KERNELS: dict[Operation, Callable[..., Any]] = {
    Operation.ADD: add,
    Operation.SUB: pc.subtract,
    Operation.MUL: pc.multiply,
    Operation.DIV: pc.divide,
    Operation.MOD: mod,
    Operation.FLOORDIV: floordiv,
    Operation.GT: pc.greater,
    Operation.LT: pc.less,
    Operation.GE: pc.greater_equal,
    Operation.LE: pc.less_equal,
    Operation.EQ: pc.equal,
    Operation.NE: pc.not_equal,
    Operation.AND: pc.and_kleene,
    Operation.OR: pc.or_kleene,
    Operation.NOT: pc.invert,
    Operation.IS_NULL: pc.is_null,
    Operation.IS_NOT_NULL: pc.is_valid,
    Operation.IN: is_in,
    Operation.NOT_IN: not_in,
}
