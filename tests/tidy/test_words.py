"""Sentences of comments and docstrings have a subject: none begins with a pronoun that stands for an unnamed noun."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for part in ("core", "hpc", "launchers") for path in (ROOT / part).rglob("*.py"))
FILES = [path for path in FILES if path.parent != ROOT / "core" / "owner"]
#: How a comment or a docstring must not begin.
RIDDLE = re.compile(r'^(#:?|[rb]?""")\s*(Who|Whom|Whose|Those|So long|So often|So many)\b')


def riddles(text: str) -> list[str]:
    """The comments and docstrings that begin so. A line that goes on with the comment above it begins nothing."""
    found, above = [], -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.COMMENT, tokenize.STRING):
            continue
        if not (token.type == tokenize.COMMENT and token.start[0] == above + 1) and RIDDLE.match(token.string):
            found.append(f"line {token.start[0]}: {token.string.splitlines()[0]}")
        above = token.end[0] if token.type == tokenize.COMMENT else -1
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_sentence_has_a_subject(path: Path) -> None:
    assert not riddles(path.read_text())


def test_the_check_sees_riddles() -> None:
    text = '"""Who waits is told."""\n#: So often it is seen.\nA = 1\n# A wait: those\n# Those go on.\n'
    assert len(riddles(text)) == 2
