"""Filters as texts, which Ray knows from before it had expressions: `"age > 18 and city in ['Rome', 'Oslo']"`."""

from __future__ import annotations

import ast

from hpc.data.expr.kernels import Operation
from hpc.data.expr.nodes import BinaryExpr, ColumnExpr, Expr, LiteralExpr, UnaryExpr

COMPARISONS: dict[type[ast.cmpop], Operation] = {
    ast.Eq: Operation.EQ,
    ast.NotEq: Operation.NE,
    ast.Lt: Operation.LT,
    ast.LtE: Operation.LE,
    ast.Gt: Operation.GT,
    ast.GtE: Operation.GE,
    ast.In: Operation.IN,
    ast.NotIn: Operation.NOT_IN,
}
ARITHMETIC: dict[type[ast.operator], Operation] = {
    ast.Add: Operation.ADD,
    ast.Sub: Operation.SUB,
    ast.Mult: Operation.MUL,
    ast.Div: Operation.DIV,
    ast.Mod: Operation.MOD,
    ast.FloorDiv: Operation.FLOORDIV,
}


def parse(text: str) -> Expr:
    """The expression of a text. Raises ValueError for what it cannot be."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"Invalid syntax in the expression: {text}") from error
    return _expr(tree.body)


def _expr(node: ast.expr) -> Expr:
    if isinstance(node, ast.Constant):
        return LiteralExpr(node.value)
    if isinstance(node, (ast.Name, ast.Attribute)):
        return ColumnExpr(_column(node))
    if isinstance(node, (ast.List, ast.Tuple)):
        return LiteralExpr([_constant(one) for one in node.elts])
    if isinstance(node, ast.Compare):
        return _comparison(node)
    if isinstance(node, ast.BoolOp):
        op = Operation.AND if isinstance(node.op, ast.And) else Operation.OR
        first, *rest = map(_expr, node.values)
        for one in rest:
            first = BinaryExpr(op, first, one)
        return first
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        operand = _expr(node.operand)
        return UnaryExpr(Operation.NOT, operand) if isinstance(node.op, ast.Not) else operand * LiteralExpr(-1)
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        return BinaryExpr(ARITHMETIC[type(node.op)], _expr(node.left), _expr(node.right))
    if isinstance(node, ast.Call):
        return _call(node)
    raise ValueError(f"a filter cannot have {ast.unparse(node)!r} in it: write it with col() and operators")


def _column(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_column(node.value)}.{node.attr}"
    raise ValueError(f"{ast.unparse(node)!r} is no name of a column")


def _constant(node: ast.expr) -> object:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return -node.operand.value  # type: ignore[operator]
    if not isinstance(node, ast.Constant):
        raise ValueError(f"a list in a filter has constants only, and not {ast.unparse(node)!r}")
    return node.value


def _comparison(node: ast.Compare) -> Expr:
    sides = [_expr(side) for side in (node.left, *node.comparators)]
    found: Expr | None = None
    for left, op, right in zip(sides, node.ops, sides[1:]):
        if type(op) not in COMPARISONS:
            raise ValueError(f"a filter cannot compare by {ast.unparse(node)!r}")
        one = BinaryExpr(COMPARISONS[type(op)], left, right)
        found = one if found is None else BinaryExpr(Operation.AND, found, one)
    assert found is not None
    return found


def _call(node: ast.Call) -> Expr:
    word = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    counts = {"is_null": 1, "is_valid": 1, "is_not_null": 1, "is_nan": 1, "is_in": 2}
    if word not in counts:
        raise ValueError(f"a filter knows no function {word}(): it knows {[*counts]}; col() and operators can do more")
    if len(node.args) != counts[word]:
        raise ValueError(f"{word}() takes {counts[word]} arguments")
    args = [_expr(arg) for arg in node.args]
    if word == "is_null":
        return UnaryExpr(Operation.IS_NULL, args[0])
    if word in ("is_valid", "is_not_null"):
        return UnaryExpr(Operation.IS_NOT_NULL, args[0])
    if word == "is_nan":
        return BinaryExpr(Operation.NE, args[0], args[0])
    return BinaryExpr(Operation.IN, *args)
