"""A table that code makes, in a page that people write: between two markers that name the script.

Each script is called without a word to write its table. With --check its exit code says whether the page is up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

DOCS = Path(__file__).parent
END = "<!-- end -->"


def page(name: str, script: str, rows: Sequence[str]) -> str:
    """The page with these rows between its markers; SystemExit where it has none."""
    begin = f"<!-- begin: written by docs/{script} -->"
    before, _, rest = (DOCS / name).read_text().partition(begin)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"docs/{name} has no place for the table: {begin} ... {END}")
    return "\n".join([before + begin, "", *rows, "", END]) + after


def main(name: str, script: str, rows: Callable[[], Sequence[str]]) -> int:
    """Write the table, or check it; returns the exit code."""
    path = DOCS / name
    new = page(name, script, rows())
    if "--check" in sys.argv:
        return int(path.read_text() != new)
    path.write_text(new)
    return 0
