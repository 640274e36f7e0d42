"""One style for all: one space between sentences, one kind of bar, and a docstring of a function says what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from imports import parsed, prose_tokens

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("core", "hpc", "launchers", "templates", "tests", "bench")
FILES = [path for part in FOLDERS for path in sorted((ROOT / part).rglob("*.py"))]
#: Programs that run under Ray as well, as a user would write them.
FILES = [path for path in FILES if "programs" not in path.parts and path.name != Path(__file__).name]
TWO_SPACES = re.compile(r"(?<=[a-z`)\"'0-9][.!?])  (?=[A-Z`\"(*@])")
BAR = re.compile(r"( *)# -{2,}")
#: What a docstring of a function does not begin with: "Send a message.", and not "Sends a message."
THIRD_PERSON = re.compile(
    r"(Asks|Checks|Closes|Deletes|Ends|Flushes|Forks|Gives|Handles|Holds|Imports|Kills|Lets|Makes|Passes|Picks|Puts"
    r"|Queues|Reads|Removes|Runs|Says|Sends|Serves|Sets|Starts|Stops|Takes|Tells|Waits|Writes)\b"
)


def odd(text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines of a file that are in another style."""
    lines = text.split("\n")
    for token in prose_tokens(text):
        for number in range(token.start[0], token.end[0] + 1):
            if TWO_SPACES.search(lines[number - 1]):
                yield number, "two spaces between sentences"
    for number, line in enumerate(lines, 1):
        if bar := BAR.match(line):
            dashes = "-" * (62 if bar[1] else 64)
            if not re.fullmatch(rf" *# {dashes} \S.*[^-]", line):
                yield number, f"a bar has {len(dashes)} dashes, then words"
    for node in ast.walk(tree):
        is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if is_function and THIRD_PERSON.match(ast.get_docstring(node) or ""):
            yield node.lineno, f"{node.name} says what it does, not what to do"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_style(path: Path) -> None:
    assert not list(odd(path.read_text(), parsed(path)))


def test_another_style_is_seen() -> None:
    text = '# One.  Two.\n\n# -- a bar ---\n\n\ndef f():\n    """Sends it.  Now."""\n\n\n# ---- a bar\n'
    assert [line for line, _ in odd(text, ast.parse(text))] == [1, 7, 3, 10, 6]
    good = f'# One. Two.\n\n# {"-" * 64} a bar\n\n\ndef f():\n    """Send it."""\n'
    assert not list(odd(good, ast.parse(good)))
