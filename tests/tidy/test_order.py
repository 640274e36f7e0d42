"""What machines do follows from what they were told: nothing iterates over a set, whose order nobody has defined.

A set of bytes or of objects is in another order in each process (PYTHONHASHSEED, addresses), and what is sent in that
order makes runs of the simulator, and bugs, that cannot be told again. Membership and size of a set are fine; what is
iterated is a dict without values, or sorted.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from imports import parsed

ROOT = Path(__file__).resolve().parents[2]
MACHINES = ("core/owner", "core/raylet", "core/head", "core/policy", "core/sim")
FILES = sorted(path for folder in MACHINES for path in (ROOT / folder).glob("*.py"))
#: Shells, whose sets are of descriptors, threads and the like.
SHELLS = ("owner/shell/printed.py",)
#: What looks at all of a set and does not depend on its order.
ORDERLESS = {"all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum"}
METHODS = {"difference_update", "intersection_update", "update", "difference", "intersection", "union", "issubset"}


def is_set(node: ast.expr | None, names: set[str]) -> bool:
    """Whether an expression is a set as far as it can be seen: by its form, or by a name that is annotated as one."""
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.BitAnd, ast.Sub)):
        return is_set(node.left, names) or is_set(node.right, names)
    if isinstance(node, ast.Attribute) and f".{node.attr}" in names:
        return True
    return isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in names


def label(node: ast.expr) -> str:
    """A function's or method's name."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def sets_named(tree: ast.AST) -> set[str]:
    """Names that hold sets, as the code writes them: "found", "self.found"."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).startswith(("set[", "frozenset[")):
            found.add(ast.unparse(node.target))
        elif isinstance(node, ast.Assign) and is_set(node.value, set()):
            found.update(ast.unparse(target) for target in node.targets)
    return found


def lines_of(tree: ast.Module) -> list[int]:
    """The lines of a file where a set's order matters. A plain name counts in its function, attributes in the file."""
    attributes = {name for name in sets_named(tree) if "." in name}
    fields = {f".{name}" for part in ast.walk(tree) if isinstance(part, ast.ClassDef) for name in sets_in_body(part)}
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return sorted({line for one in functions for line in iterated(one, attributes | fields | sets_named(one))})


def sets_in_body(part: ast.ClassDef) -> set[str]:
    """The fields of a dataclass that are sets."""
    return sets_named(ast.Module([n for n in part.body if isinstance(n, ast.AnnAssign)], []))


def iterated(tree: ast.AST, names: set[str]) -> list[int]:
    """The lines of a function where a set's order matters."""
    harmless: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.SetComp):
            harmless.update(id(part.iter) for part in node.generators)
        if isinstance(node, ast.Call) and label(node.func) in ORDERLESS | METHODS:
            for arg in node.args:
                harmless.add(id(arg))
                if isinstance(arg, (ast.GeneratorExp, ast.ListComp)):
                    harmless.update(id(part.iter) for part in arg.generators)
                if isinstance(arg, ast.Set):
                    harmless.update(id(part.value) for part in arg.elts if isinstance(part, ast.Starred))
    lines = []
    for node in ast.walk(tree):
        looped = node.iter if isinstance(node, (ast.For, ast.comprehension)) else None
        if isinstance(node, ast.Starred):
            looped = node.value
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr == "pop" and not node.args:
                looped = node.func.value
            elif label(node.func) in ("list", "tuple", "iter", "next", "enumerate", "fromkeys") and node.args:
                looped = node.args[0]
        if looped is not None and id(looped) not in harmless and is_set(looped, names):
            lines.append(looped.lineno)
    return sorted(lines)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_machine_iterates_over_a_set(path):
    if str(path).endswith(SHELLS):
        return
    lines = lines_of(parsed(path))
    assert not lines, f"{path.relative_to(ROOT)}, lines {lines}: a dict without values has an order"


def test_the_check_can_fail():
    text = """
class A:
    fields: set[int]
    def __init__(self):
        self.dirty: set[int] = set()
    def send(self):
        for one in self.dirty: pass
        self.dirty.pop()
        for one in {*a, *b}: pass
        list({1} | c)
        list(self.b.fields)
        sorted(self.dirty), any(x for x in self.dirty), len(self.dirty)
        for one in sorted(self.dirty): pass
"""
    assert lines_of(ast.parse(text)) == [7, 8, 9, 10, 11]
