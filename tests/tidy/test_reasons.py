"""Reasons are values: no behaviour depends on the wording of a text.

A ``why`` beside a value is for people, and so is the text of an exception: what acts on an end or a failure looks at
the ``cause``, the class or the state. So nothing compares, searches, splits or looks up a text of that kind; what a
scheduler prints is input from outside, and read in one place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from imports import parsed

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(p for part in ("core", "hpc", "launchers") for p in (ROOT / part).rglob("*.py"))
#: What schedulers print: words from outside.
OUTSIDE = re.compile(r"launchers/\w+/(commands|words)\.py")
#: A constant of several words is prose, too.
PROSE = re.compile(r".*[A-Za-z]{2,} [A-Za-z]{2,}.*", re.DOTALL)
#: Names of texts for people.
TEXT = re.compile(r"(.*_)?(why|reason)|infeasible|death_cause")
#: Names of exceptions: what `str` makes of them is such a text.
ERROR = re.compile(r"(.*_)?(error|exc|exception|failure)")
#: What takes a text apart or looks into it. (Lines, and what surrounds a text, are a matter of how it is shown.)
LOOKS = {
    "startswith", "endswith", "partition", "rpartition", "split", "rsplit", "find", "rfind", "index", "rindex", "count",
    "removeprefix", "removesuffix",
}  # fmt: skip
REGEX = {"match", "search", "fullmatch", "findall", "finditer", "split"}


def called(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_text(node: ast.AST) -> bool:
    """Whether an expression is a text for people, as far as its name says."""
    if isinstance(node, (ast.Name, ast.Attribute)):
        return TEXT.fullmatch(called(node)) is not None
    if isinstance(node, ast.Subscript):
        key = node.slice
        return isinstance(key, ast.Constant) and isinstance(key.value, str) and TEXT.fullmatch(key.value) is not None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("str", "repr") and node.args:
        return ERROR.fullmatch(called(node.args[0])) is not None or is_text(node.args[0])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):  # error.why(), why.lower()
        return is_text(node.func) if node.func.attr in ("why", "reason") else is_text(node.func.value)
    if isinstance(node, ast.BoolOp):
        return any(map(is_text, node.values))
    return False


def is_prose(node: ast.AST) -> bool:
    """Whether it is a constant of several words (or a list of some), which only a text for people has."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and PROSE.fullmatch(node.value) is not None
    return isinstance(node, (ast.Tuple, ast.List, ast.Set)) and any(map(is_prose, node.elts))


def empty(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and not node.value


def read_texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a text for people decides something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            asks = any(isinstance(op, (ast.Eq, ast.NotEq, ast.In, ast.NotIn)) for op in node.ops)
            if asks and any(map(is_text, sides)) and not all(is_text(side) or empty(side) for side in sides):
                yield node.lineno, "compares"
            elif asks and any(map(is_prose, sides)):
                yield node.lineno, "compares with words"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in LOOKS and (is_text(node.func.value) or any(map(is_prose, node.args))):
                yield node.lineno, node.func.attr
            elif node.func.attr in REGEX and any(is_text(arg) for arg in node.args[:2]):
                yield node.lineno, f"re.{node.func.attr}"
            elif node.func.attr == "get" and node.args and is_text(node.args[0]):
                yield node.lineno, "looks up"
        elif isinstance(node, ast.Subscript) and is_text(node.slice):
            yield node.lineno, "looks up"
        elif isinstance(node, ast.Match) and is_text(node.subject):
            yield node.lineno, "matches"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_acts_on_the_words_of_a_reason(path):
    if OUTSIDE.fullmatch(str(path.relative_to(ROOT))):
        return
    found = [f"line {line} {what}" for line, what in read_texts(parsed(path))]
    assert not found, f"{path.relative_to(ROOT)}: {found}: act on a value, the text beside it may be reworded"


@pytest.mark.parametrize(
    "text",
    [
        'why.startswith("exit:")',
        '"has no room" in msg.why',
        "why != KILLED",
        'client.why.partition(": ")',
        'row["why"].startswith("its runtime environment")',
        'str(error) == "gone"',
        '"gone" in str(error).lower()',
        're.search("gone", why)',
        "NAMES[msg.why]",
        "NAMES.get(reason)",
        '(row.get("x") or why).split()',
        'message.get("more", "").startswith("not started")',
        'row["detail"].partition("; its last words")',
        '"left behind" in row["text"]',
        'state in ("not ready", "gone")',
    ],
)
def test_the_check_finds(text):
    assert list(read_texts(ast.parse(text)))


@pytest.mark.parametrize(
    "text", ["if why: pass", "old.why != new_why", "why == ''", "f'{why}: {error}'", "cause == 'oom'"]
)
def test_the_check_leaves_alone(text):
    assert not list(read_texts(ast.parse(text)))
