"""The states and kinds of things are types: an attribute with such a name is a Literal or an enum, never any text.

So mypy refuses a state that is misspelt, and its line says which states there are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from imports import parsed

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for part in ("core", "launchers", "hpc") for path in (ROOT / part).rglob("*.py"))
#: Names of attributes that say which of a few things something is.
NAMES = {"busy", "cause", "ending", "kind", "mode", "phase", "scope", "stage", "state", "status"}
#: Attributes that may have any text, with the reason.
ANY_TEXT = {
    ("launchers/scheduler.py", "state"): "the scheduler's own word, shown to people",
    ("hpc/settings/sites.py", "kind"): "a site names the kinds of its nodes",
    ("core/accelerators/base.py", "kind"): "what makers call their products",
}


def is_text(annotation: ast.expr) -> bool:
    """Whether an annotation is str, or str beside something else."""
    if isinstance(annotation, ast.BinOp):
        return is_text(annotation.left) or is_text(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id == "str"


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where an attribute with such a name is declared as any text, or gets a text without being declared at all."""
    declared = {ast.unparse(n.target).removeprefix("self.") for n in ast.walk(tree) if isinstance(n, ast.AnnAssign)}
    for cls in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for node in ast.walk(cls):
            if isinstance(node, ast.AnnAssign):
                target, text = node.target, is_text(node.annotation)
            elif isinstance(node, ast.Assign):
                target, value = node.targets[0], node.value
                text = isinstance(value, ast.Constant) and isinstance(value.value, str)
                text = text and ast.unparse(target).removeprefix("self.") not in declared
            else:
                continue
            name = ast.unparse(target).removeprefix("self.").lstrip("_")
            if text and name in NAMES and (node in cls.body or isinstance(target, ast.Attribute)):
                yield node.lineno, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_state_is_a_type(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    found = [(line, attr) for line, attr in texts(parsed(path)) if (name, attr) not in ANY_TEXT]
    assert not found, f"{name}: {found}: name the states, as a Literal"


def test_each_exception_is_one() -> None:
    for name, attr in ANY_TEXT:
        assert attr in [found for _, found in texts(ast.parse((ROOT / name).read_text()))], (name, attr)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("state: str = 'new'", 1),
        ("state: str | None = None", 1),
        ("state: Literal['new', 'old'] = 'new'", 0),
        ("_kind = ''", 1),
        ("def f(self):\n        self._state = 'new'", 1),
        ("def f(self):\n        state: str = self.words()", 0),
        ("name: str = ''", 0),
    ],
)
def test_the_check_sees_texts(body: str, count: int) -> None:
    assert len(list(texts(ast.parse(f"class A:\n    {body}\n")))) == count
