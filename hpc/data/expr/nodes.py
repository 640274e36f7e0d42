"""Expressions of columns, which users build with operators and methods, and which tasks evaluate with Arrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block.scalars import full_scalar, scalar
from hpc.data.datatype import DataType
from hpc.data.expr.base import Node, Run
from hpc.data.expr.kernels import COLUMNS, KERNELS, Operation

Text = str
UNKNOWN = DataType(object)
BOOL = DataType.bool()
FLOAT = DataType.float64()
LABEL_LENGTH = 50


#: The functions of one type of columns, by the name that an expression has for them. `expressions` puts them here.
NAMESPACES: dict[Text, Callable[[Expr], Any]] = {}


def _operator(op: Operation, turned: bool = False) -> Callable[[Expr, Any], Expr]:
    """The operator between an expression and a value, or the other way round."""

    def operator(self: Expr, other: Any) -> Expr:
        return BinaryExpr(op, as_expr(other), self) if turned else BinaryExpr(op, self, as_expr(other))

    return operator


def _function(function: Text, meaning: Text, kind: DataType = UNKNOWN) -> Callable[[Expr], Expr]:
    """The method that calls a function of Arrow on the expression alone."""

    def method(self: Expr) -> Expr:
        return compute(function, self, kind=kind)

    method.__doc__ = meaning
    return method


class Expr(Node):
    """An expression: columns, literals, and what operators and functions make of them.

    Nothing is evaluated before a dataset runs. Operators are those of Python; `&`, `|` and `~` stand for and, or, not.
    """

    data_type: DataType = UNKNOWN

    @property
    def name(self) -> Text | None:
        """The name of the column that it gives; None if it needs an alias."""
        return None

    # -------------------------------------------------------------- operators

    __add__ = _operator(Operation.ADD)
    __radd__ = _operator(Operation.ADD, turned=True)
    __sub__ = _operator(Operation.SUB)
    __rsub__ = _operator(Operation.SUB, turned=True)
    __mul__ = _operator(Operation.MUL)
    __rmul__ = _operator(Operation.MUL, turned=True)
    __truediv__ = _operator(Operation.DIV)
    __rtruediv__ = _operator(Operation.DIV, turned=True)
    __floordiv__ = _operator(Operation.FLOORDIV)
    __rfloordiv__ = _operator(Operation.FLOORDIV, turned=True)
    __mod__ = _operator(Operation.MOD)
    __rmod__ = _operator(Operation.MOD, turned=True)
    __gt__ = _operator(Operation.GT)
    __lt__ = _operator(Operation.LT)
    __ge__ = _operator(Operation.GE)
    __le__ = _operator(Operation.LE)
    __eq__ = _operator(Operation.EQ)  # type: ignore[assignment]
    __ne__ = _operator(Operation.NE)  # type: ignore[assignment]
    __and__ = _operator(Operation.AND)
    __or__ = _operator(Operation.OR)

    def __invert__(self) -> Expr:
        return UnaryExpr(Operation.NOT, self)

    __hash__ = Node.__hash__

    # -------------------------------------------------------------- methods

    def is_null(self) -> Expr:
        """Whether a cell is missing."""
        return UnaryExpr(Operation.IS_NULL, self)

    def is_not_null(self) -> Expr:
        """Whether a cell is there."""
        return UnaryExpr(Operation.IS_NOT_NULL, self)

    def is_in(self, values: Any) -> Expr:
        """Whether a cell is one of a list of values."""
        return BinaryExpr(Operation.IN, self, as_expr(values))

    def not_in(self, values: Any) -> Expr:
        """Whether a cell is none of a list of values."""
        return BinaryExpr(Operation.NOT_IN, self, as_expr(values))

    def alias(self, name: Text) -> Expr:
        """The same under a name."""
        return AliasExpr(self, name)

    def cast(self, target_type: DataType, *, safe: bool = True) -> Expr:
        """The same as another type. With `safe` a value that does not fit is an error.

        Raises TypeError for anything but a DataType of Arrow or numpy.
        """
        if not isinstance(target_type, DataType):
            raise TypeError(f"target_type must be a DataType, as DataType.int64() is, and not {target_type!r}")
        if target_type.is_python_type():
            raise TypeError(f"a column cannot be cast to the class {target_type}: use DataType.int64() or the like")
        return CastExpr(self, target_type, safe)

    abs = _function("abs_checked", "The value without its sign.")
    ceil = _function("ceil", "The next integer above, as a float.")
    floor = _function("floor", "The next integer below, as a float.")
    round = _function("round", "The nearest integer, as a float; of two that are equally near, the even one.")
    trunc = _function("trunc", "The integer part, as a float.")
    sign = _function("sign", "-1, 0 or 1.")
    negate = _function("negate_checked", "The value with the other sign.")
    exp = _function("exp", "The exponential.", FLOAT)
    ln = _function("ln", "The natural logarithm.", FLOAT)
    log2 = _function("log2", "The logarithm to base 2.", FLOAT)
    log10 = _function("log10", "The logarithm to base 10.", FLOAT)
    sin = _function("sin", "The sine.", FLOAT)
    cos = _function("cos", "The cosine.", FLOAT)
    tan = _function("tan", "The tangent.", FLOAT)
    asin = _function("asin", "The arc sine.", FLOAT)
    acos = _function("acos", "The arc cosine.", FLOAT)
    atan = _function("atan", "The arc tangent.", FLOAT)

    def power(self, exponent: Any) -> Expr:
        """The value to this power: a number, or another expression."""
        return compute("power", self, exponent)

    # -------------------------------------------------------------- what it will give

    def get_type(self, input_schema: pa.Schema) -> pa.DataType | None:
        """The Arrow type of its column for rows of this schema; None if only evaluation can tell."""
        try:
            return self.evaluate(input_schema.empty_table()).type
        except Exception:
            return None

    def nullable(self, input_schema: pa.Schema) -> bool:
        """Whether cells of its column may be missing."""
        children = [child for child in self.children() if isinstance(child, Expr)]
        return not children or any(child.nullable(input_schema) for child in children)

    def to_field(self, input_schema: pa.Schema) -> pa.Field | None:
        """The field of its column; None without a name or a known type."""
        kind = self.get_type(input_schema)
        if kind is None or self.name is None:
            return None
        return pa.field(self.name, kind, nullable=self.nullable(input_schema))

    def expand_projection(self, input_schema: pa.Schema | None) -> Sequence[Expr]:
        """The expressions of one column each that it stands for."""
        return [self]

    def to_pyarrow(self) -> pc.Expression:
        """The same as an expression of Arrow. Raises TypeError or ValueError where Arrow has none."""
        raise TypeError(f"{self.label()} has no equivalent among the expressions of Arrow")

    def to_arrow(self) -> pc.Expression | None:
        """The same as an expression of Arrow, for a reader; None where there is none with the same meaning."""
        # Without their types, nobody knows whether two columns are numbers or texts, which are added otherwise.
        if any(isinstance(node, BinaryExpr) and node.is_sum_of_unknown() for node in self.walk()):
            return None
        try:
            return self.to_pyarrow()
        except (TypeError, ValueError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None

    # -------------------------------------------------------------- functions of one type

    @property
    def arr(self) -> Any:
        """Functions of arrays of one length."""
        return NAMESPACES["arr"](self)

    @property
    def dt(self) -> Any:
        """Functions of times."""
        return NAMESPACES["dt"](self)

    @property
    def list(self) -> Any:
        """Functions of lists."""
        return NAMESPACES["list"](self)

    @property
    def map(self) -> Any:
        """Functions of maps."""
        return NAMESPACES["map"](self)

    @property
    def struct(self) -> Any:
        """Functions of structs."""
        return NAMESPACES["struct"](self)

    @property
    def str(self) -> Any:
        """Functions of texts."""
        return NAMESPACES["str"](self)


def as_expr(value: Any) -> Expr:
    """The expression itself, or the literal of a value."""
    return value if isinstance(value, Expr) else LiteralExpr(value)


@dataclass(frozen=True, eq=False, repr=False)
class ColumnExpr(Expr):
    """A column."""

    _name: Text

    @property
    def name(self) -> Text:
        return self._name

    def key(self) -> Any:
        return self._name

    def label(self) -> Text:
        return f"COL({self._name!r})"

    def columns(self) -> frozenset[Text]:
        return frozenset((self._name,))

    def rename(self, mapping: Mapping[Text, Text]) -> Node:
        new = mapping.get(self._name)
        return self if new is None else ColumnExpr(new)

    def substitute(self, columns: Mapping[Text, Node]) -> Node:
        return columns.get(self._name, self)

    def value(self, table: pa.Table, run: Run) -> Any:
        place = table.schema.get_field_index(self._name)
        if place < 0:
            raise KeyError(f"there is no column {self._name!r}: the columns are {table.column_names}")
        return table.column(place)

    def get_type(self, input_schema: pa.Schema) -> pa.DataType | None:
        place = input_schema.get_field_index(self._name)
        return None if place < 0 else input_schema.field(place).type

    def nullable(self, input_schema: pa.Schema) -> bool:
        place = input_schema.get_field_index(self._name)
        return place < 0 or bool(input_schema.field(place).nullable)

    def to_field(self, input_schema: pa.Schema) -> pa.Field | None:
        place = input_schema.get_field_index(self._name)
        return None if place < 0 else input_schema.field(place)

    def to_pyarrow(self) -> pc.Expression:
        return pc.field(self._name)


@dataclass(frozen=True, eq=False, repr=False)
class LiteralExpr(Expr):
    """One value for all rows."""

    literal: Any

    @property
    def data_type(self) -> DataType:  # type: ignore[override]
        """The type of the value."""
        return DataType.infer_dtype(self.literal)

    def key(self) -> Any:
        return (type(self.literal), Same(self.literal))

    def label(self) -> Text:
        shown = repr(self.literal)
        return f"LIT({shown if len(shown) <= LABEL_LENGTH else shown[: LABEL_LENGTH - 3] + '...'})"

    def value(self, table: pa.Table, run: Run) -> Any:
        return self.literal

    def nullable(self, input_schema: pa.Schema) -> bool:
        return self.literal is None

    def to_pyarrow(self) -> pc.Expression:
        return pc.scalar(self.literal)


class Same:
    """A value that is compared as a whole, arrays and lists too."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Same):
            return False
        try:
            return bool(self.value == other.value)
        except ValueError:
            return repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        return hash(repr(self.value))


@dataclass(frozen=True, eq=False, repr=False)
class BinaryExpr(Expr):
    """An operator between two expressions."""

    op: Operation
    left: Expr
    right: Expr

    def children(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    def with_children(self, children: tuple[Any, ...]) -> Node:
        return BinaryExpr(self.op, *children)

    def key(self) -> Any:
        return self.op

    def label(self) -> Text:
        return self.op.name

    def labels(self) -> tuple[Text, ...]:
        return ("left", "right")

    def value(self, table: pa.Table, run: Run) -> Any:
        left, right = self.left.evaluated(table, run), self.right.evaluated(table, run)
        if isinstance(left, COLUMNS):
            right = scalar(right)
        elif isinstance(right, COLUMNS):
            left = scalar(left)
        return KERNELS[self.op](left, right)

    def is_sum_of_unknown(self) -> bool:
        """Whether it is a sum, and none of its sides tells if it is one of numbers or of texts."""
        sides = (self.left, self.right)
        return self.op is Operation.ADD and not any(isinstance(side, LiteralExpr) for side in sides)

    def to_pyarrow(self) -> pc.Expression:
        left = self.left.to_pyarrow()
        if self.op in (Operation.IN, Operation.NOT_IN):
            if not isinstance(self.right, LiteralExpr):
                raise ValueError(f"Arrow needs a list of values for is_in, and not {self.right.label()}")
            given = self.right.literal
            found = pc.is_in(left, pa.array(given if isinstance(given, list) else [given]))
            return pc.invert(found) if self.op is Operation.NOT_IN else found
        right = self.right.to_pyarrow()
        if self.op is Operation.ADD:
            # The types of columns are not known here, and texts are added otherwise than numbers.
            if any(isinstance(side, LiteralExpr) and isinstance(side.literal, str) for side in (self.left, self.right)):
                return pc.binary_join_element_wise(left, right, "")
            return pc.add(left, right)
        return KERNELS[self.op](left, right)


@dataclass(frozen=True, eq=False, repr=False)
class UnaryExpr(Expr):
    """An operator before one expression."""

    op: Operation
    operand: Expr
    data_type: DataType = BOOL

    def children(self) -> tuple[Node, ...]:
        return (self.operand,)

    def with_children(self, children: tuple[Any, ...]) -> Node:
        return UnaryExpr(self.op, *children)

    def key(self) -> Any:
        return self.op

    def label(self) -> Text:
        return self.op.name

    def labels(self) -> tuple[Text, ...]:
        return ("operand",)

    def value(self, table: pa.Table, run: Run) -> Any:
        operand = self.operand.evaluated(table, run)
        if not isinstance(operand, COLUMNS):
            operand = full_scalar(operand) if not isinstance(operand, pa.Scalar) else operand
        return KERNELS[self.op](operand)

    def nullable(self, input_schema: pa.Schema) -> bool:
        return self.op is Operation.NOT and self.operand.nullable(input_schema)

    def to_pyarrow(self) -> pc.Expression:
        return KERNELS[self.op](self.operand.to_pyarrow())


@dataclass(frozen=True, eq=False, repr=False)
class AliasExpr(Expr):
    """An expression under a name. `_is_rename`: it stands where the column stood that it renames."""

    expr: Expr
    _name: Text
    _is_rename: bool = False

    @property
    def data_type(self) -> DataType:  # type: ignore[override]
        """The type of the expression."""
        return self.expr.data_type

    @property
    def name(self) -> Text:
        return self._name

    def alias(self, name: Text) -> Expr:
        return AliasExpr(self.expr, name, self._is_rename)

    def children(self) -> tuple[Node, ...]:
        return (self.expr,)

    def with_children(self, children: tuple[Any, ...]) -> Node:
        return AliasExpr(children[0], self._name, self._is_rename)

    def key(self) -> Any:
        return (self._name, self._is_rename)

    def label(self) -> Text:
        return f"ALIAS({self._name!r})" + (" [rename]" if self._is_rename else "")

    def value(self, table: pa.Table, run: Run) -> Any:
        return self.expr.evaluated(table, run)

    def to_pyarrow(self) -> pc.Expression:
        return self.expr.to_pyarrow()


@dataclass(frozen=True, eq=False, repr=False)
class CastExpr(Expr):
    """An expression as another type."""

    expr: Expr
    data_type: DataType
    safe: bool = True

    def children(self) -> tuple[Node, ...]:
        return (self.expr,)

    def with_children(self, children: tuple[Any, ...]) -> Node:
        return CastExpr(children[0], self.data_type, self.safe)

    def key(self) -> Any:
        return (self.data_type, self.safe)

    def label(self) -> Text:
        return f"CAST({self.data_type.to_arrow_dtype()})"

    def value(self, table: pa.Table, run: Run) -> Any:
        found = self.expr.evaluated(table, run)
        found = found if isinstance(found, (*COLUMNS, pa.Scalar)) else full_scalar(found)
        return pc.cast(found, self.data_type.to_arrow_dtype(), safe=self.safe)

    def to_pyarrow(self) -> pc.Expression:
        return self.expr.to_pyarrow().cast(self.data_type.to_arrow_dtype(), safe=self.safe)


@dataclass(frozen=True, eq=False, repr=False)
class PyArrowComputeUDFExpr(Expr):
    """A function of Arrow, by its name, on expressions and with fixed arguments behind them."""

    function: Text
    args: tuple[Expr, ...]
    pc_positional: tuple[Any, ...] = ()
    pc_kwargs: Mapping[Text, Any] = field(default_factory=dict)
    data_type: DataType = UNKNOWN

    def children(self) -> tuple[Node, ...]:
        return self.args

    def with_children(self, children: tuple[Any, ...]) -> Node:
        return PyArrowComputeUDFExpr(self.function, children, self.pc_positional, self.pc_kwargs, self.data_type)

    def key(self) -> Any:
        return (self.function, Same(self.pc_positional), Same(dict(self.pc_kwargs)))

    def label(self) -> Text:
        return f"UDF({self.function})"

    def labels(self) -> tuple[Text, ...]:
        return tuple(f"arg[{place}]" for place in range(len(self.args)))

    def value(self, table: pa.Table, run: Run) -> Any:
        found = [arg.evaluated(table, run) for arg in self.args]
        found = [one if isinstance(one, (*COLUMNS, pa.Scalar)) else full_scalar(one) for one in found]
        return getattr(pc, self.function)(*found, *self.pc_positional, **self.pc_kwargs)

    def to_pyarrow(self) -> pc.Expression:
        found = [arg.to_pyarrow() for arg in self.args]
        return getattr(pc, self.function)(*found, *self.pc_positional, **self.pc_kwargs)


def compute(function: Text, *given: Any, kind: DataType = UNKNOWN, **options: Any) -> PyArrowComputeUDFExpr:
    """A function of Arrow on the expressions among these, with the others as its options."""
    args = tuple(one for one in given if isinstance(one, Expr))
    return PyArrowComputeUDFExpr(function, args, given[len(args) :], options, kind)
