"""One loop drives sessions: nothing but launchers/loop.py (and the session's own blocking methods) turns one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from imports import parsed

ROOT = Path(__file__).resolve().parents[2]
#: The loop; the session itself; the store's and the leases' `pump` are other things.
LOOPS = {"launchers/loop.py", "launchers/session.py"}
FILES = [
    path
    for part in ("hpc", "launchers")
    for path in sorted((ROOT / part).rglob("*.py"))
    if str(path.relative_to(ROOT)) not in LOOPS
]


def turns(tree: ast.AST) -> list[int]:
    """The lines that turn a session."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return [call.lineno for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "pump"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_else_turns_a_session(path: Path) -> None:
    assert turns(parsed(path)) == [], "let launchers/loop.py drive the session"


def test_the_check_can_fail() -> None:
    assert turns(ast.parse("while True:\n    self.session.pump(1.0)\n")) == [2]
