"""Sentences of comments, docstrings and pages have a subject: none begins with a pronoun for an unnamed noun."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from imports import prose_tokens

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("core", "hpc", "launchers", "templates", "tests", "bench", "examples")
FILES = sorted(path for part in FOLDERS for path in (ROOT / part).rglob("*.py") if path.name != "test_words.py")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: How a comment or a docstring must not begin, and how no sentence must. A question may.
FIRST = re.compile(r"(Those|Who|Whom|Whose|So few|So long|So many|So much|So often)\b")
LATER = re.compile(r"(?<=[.!?:] )(Who|Whom|Whose|So few|So long|So many|So much|So often)\b(?![^.!]*\?)")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The comments and docstrings of a file, with their first line. A comment goes on with the one above it."""
    lines: list[str] = []
    start = last = 0
    for token in prose_tokens(text):
        if token.type == tokenize.COMMENT:
            if lines and token.start[0] != last + 1:
                yield start, " ".join(lines)
                lines = []
            start, last = (start if lines else token.start[0]), token.start[0]
            lines.append(re.sub(r"^#:? ?", "", token.string))
        else:
            yield token.start[0], " ".join(token.string.split('"""')[1].split())
    if lines:
        yield start, " ".join(lines)


def riddles(text: str) -> list[str]:
    """The comments and docstrings of a file that begin, or have a sentence that begins, so."""
    return [f"line {line}: {said}" for line, said in prose(text) if FIRST.match(said) or LATER.search(said)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_sentence_has_a_subject(path: Path) -> None:
    assert not riddles(path.read_text())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_sentence_of_a_page_has_a_subject(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n|\n[*|-] ", text)]
    assert not [block for block in blocks if FIRST.match(block) or LATER.search(block)]


def test_the_check_sees_riddles() -> None:
    text = '"""Who waits is told."""\n#: So often it is seen.\nA = 1\n# A wait: those\n# Those go on.\n'
    assert len(riddles(text)) == 2
    assert len(riddles('"""A wait. Who waits\nis told."""\n# It is so. So many wait.\n')) == 2
    assert not riddles('"""A wait. Who waits? Nobody."""\n# It is so. Those wait.\n')
