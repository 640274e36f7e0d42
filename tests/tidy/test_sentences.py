"""The sentences of docstrings are short: at most 25 words.

A sentence ends with a full stop, an exclamation or question mark. Code and quoted texts are one word each. Blocks that
are set in (code, examples, lists of fields) are not counted, and the items of a list are sentences of their own.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from imports import parsed

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(p for part in ("core", "hpc", "launchers", "templates") for p in (ROOT / part).rglob("*.py"))
MOST_WORDS = 25
#: Files that have longer ones still; a file that has none leaves the list, and none comes to it.
LONGER: set[str] = set()
#: What counts as one word, and where the next sentence begins.
ONE_WORD = re.compile(r'``.*?``|`[^`]*`|"[^"]*"', re.DOTALL)
END = re.compile(r"(?<=[.!?])[)\"']*\s+(?=\S)")
SET_IN = re.compile(r"    |\S+(?: \S+)*[^\s.!?:]  +\S")
ITEM = re.compile(r"^(?:[*-] |\d+\. |\w+(?:, \w+)*: )", re.MULTILINE)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sentences(docstring: str) -> Iterator[str]:
    """The sentences of a docstring, each on one line."""
    for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = [line for line in block.split("\n") if not SET_IN.match(line)]
        for item in ITEM.split("\n".join(lines)):
            codes: list[str] = []

            def keep(match: re.Match[str], codes: list[str] = codes) -> str:
                codes.append(match[0])
                return f"\0{len(codes) - 1}\0"

            for sentence in END.split(ONE_WORD.sub(keep, item)):
                whole = re.sub(r"\0(\d+)\0", lambda match, codes=codes: codes[int(match[1])], sentence)
                if text := " ".join(whole.split()):
                    yield text


def words(sentence: str) -> int:
    """How many words a sentence has."""
    return sum(1 for word in ONE_WORD.sub("x", sentence).split() if re.search(r"\w", word))


def longer(tree: ast.Module) -> list[str]:
    """The sentences of a module's docstrings that are too long."""
    docstrings = [ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, DOCUMENTED)]
    return [s for docstring in docstrings if docstring for s in sentences(docstring) if words(s) > MOST_WORDS]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sentences_are_short(path: Path) -> None:
    name, found = str(path.relative_to(ROOT)), longer(parsed(path))
    if name in LONGER:
        assert found, f"{name} has no long sentence left: take it from the list"
    else:
        assert not found, f"{name}: more than {MOST_WORDS} words: {found}"


def test_long_sentences_are_seen() -> None:
    many = " ".join(["word"] * 25)
    assert longer(ast.parse(f'"""{many} ``a b c`` more. Short one."""')) == [f"{many} ``a b c`` more."]
    short = f'"""{many[5:]} ``a b c``. {many}! "{many}"\n\n    {many} {many}\n\n* {many}\n* {many}\n"""'
    assert not longer(ast.parse(short))
