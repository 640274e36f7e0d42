"""The style rules as a test, so that they stay true.

Lengths are ratchets: the limits may only be lowered.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from imports import nodes, parsed

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("hpc", "core", "launchers", "templates")
FILES = sorted(p for part in (*PARTS, "bench", "examples", "tests") for p in (ROOT / part).rglob("*.py"))

MAX_FILE_LINES = 605
#: The tests of links are one table of faults.
LONGER = {"tests/runtime/test_links.py": 700}
MAX_FUNCTION_LINES = 85

#: Which part may import which inside the package: core none of the others, launchers neither the API nor the CLI.
FORBIDDEN = {"core", "launchers"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: relative imports are not used here"
            yield node.module or "", node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_and_functions_fit_in_the_head(path):
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= LONGER.get(name(path), MAX_FILE_LINES), (
        f"{name(path)} has {lines} lines: it is asking to be two things"
    )
    for node in nodes(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{name(path)}:{node.lineno}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "__init__.py" or p.read_text()], ids=name)
def test_every_file_says_why_it_exists(path):
    assert ast.get_docstring(parsed(path)), f"{name(path)} has no docstring"


@pytest.mark.parametrize("path", [p for p in FILES if name(p).split("/")[0] in FORBIDDEN], ids=name)
def test_imports_point_one_way(path):
    part = name(path).split("/")[0]
    own = {"core": {"hpc.core", "hpc._version"}, "launchers": {"hpc.core", "hpc.launchers", "hpc._version"}}[part]
    for module, line in imported(path):
        if module == "hpc" or module.startswith("hpc."):
            allowed = any(module == o or module.startswith(o + ".") for o in own)
            assert allowed, f"{name(path)}:{line} imports {module}"


def test_every_subpackage_is_listed_for_the_wheel():
    listed = (ROOT / "pyproject.toml").read_text()
    for part in PARTS:
        for init in (ROOT / part).rglob("__init__.py"):
            package = ".".join(init.parent.relative_to(ROOT).parts)
            package = package if part == "hpc" else f"hpc.{package}"
            assert f'"{package}"' in listed, f"{package} is not in pyproject.toml's packages"
