"""The examples of pages are whole programs, and those that need nothing that is not here run as they are."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: api.md has signatures.
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "api.md")]
#: The others need a model, a package index, an image ...; helpers.md and libraries.md have tests of their own.
RUN = ("observability.md", "programming-model.md", "scheduling.md")

#: Runs each example as a program of its own would, one after the other.
RUNNER = """
import sys
import hpc
for number, code in enumerate(sys.stdin.read().split("\\0")):
    print("example", number)
    exec(compile(code, f"example {number}", "exec"), {"__name__": "__main__"})
    hpc.shutdown()
"""


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)


def unknown_names(code: str) -> set[str]:
    """Names that are used and made nowhere."""
    used, made = set(), set(dir(builtins))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            made |= {(name.asname or name.name).partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            made.add(node.name)
    return used - made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_an_example_is_a_whole_program(page: Path) -> None:
    assert [unknown_names(code) for code in examples(page)] == [set() for _ in examples(page)]


@pytest.mark.parametrize("name", RUN)
def test_the_examples_of_a_page_run(name: str, tmp_path: Path) -> None:
    codes = examples(ROOT / "docs" / name)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input="\0".join(codes), cwd=tmp_path, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0 and done.stdout.count("example ") == len(codes), done.stdout + done.stderr
