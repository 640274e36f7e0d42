"""Rows as somebody looks at them: those that a filter chooses, in an order, a part at a time. No I/O.

A filter is words. Each is a piece of text that some shown field has, or ``field=value``, or ``field!=value``; a row
passes all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
#: Rows that a page shows where it asks for no number, and the most that it gets.
SHOWN = 100
MOST = 500
#: A text in a row is cut here: all of it is in the row's own page.
LONGEST = 300


class Params:
    """What a page was asked for: the part of an address behind the question mark."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    def text(self, name: str, default: str = "") -> str:
        """One value as text."""
        return self._given.get(name, default)

    def number(self, name: str, default: float, most: float) -> float:
        """One value as a number from 0 to ``most``; the default where it is none."""
        try:
            return min(most, max(0.0, float(self._given.get(name, default))))
        except ValueError:
            return default


def listing(rows: Sequence[Row], columns: Sequence[str], params: Params) -> dict[str, Any]:
    """The rows that params choose by ``q``, ``sort`` (-field: downwards), ``from`` and ``limit``, with the number of
    all and of those that the filter passes."""
    chosen = matching(rows, params.text("q"), columns)
    if sort := params.text("sort"):
        field, down = sort.lstrip("-"), sort.startswith("-")
        if field in columns:
            chosen = sorted(chosen, key=lambda row: _rank(row.get(field)), reverse=down)
    begin = int(params.number("from", 0, 10_000_000))
    part = chosen[begin : begin + int(params.number("limit", SHOWN, MOST))]
    return {
        "columns": list(columns),
        "rows": [{name: short(row.get(name)) for name in columns} for row in part],
        "from": begin,
        "matching": len(chosen),
        "total": len(rows),
    }


def matching(rows: Iterable[Row], words: str, columns: Sequence[str]) -> list[Row]:
    """The rows that pass a filter."""
    rows = list(rows)
    fields = {*columns, *(rows[0] if rows else ())}
    tests = [_test(word.lower(), fields) for word in words.split()]
    if not tests:
        return rows
    return [row for row in rows if all(_passes(row, columns, *test) for test in tests)]


def _test(word: str, fields: Collection[str]) -> tuple[str, bool, str]:
    """The field ("" for any), whether it has to be, and the text. A name with "=" in it is a text."""
    field, found, value = word.partition("=")
    wanted = not field.endswith("!")
    field = field if wanted else field[:-1]
    return (field, wanted, value) if found and field in fields else ("", True, word)


def _passes(row: Row, columns: Sequence[str], field: str, wanted: bool, text: str) -> bool:
    if field:
        return (str(row.get(field, "")).lower() == text) == wanted
    return any(text in str(row.get(name, "")).lower() for name in columns)


def _rank(value: Any) -> tuple[int, float, str]:
    """What values of all kinds are ordered by: numbers before texts."""
    if isinstance(value, (int, float)):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def short(value: Any) -> Any:
    """A value that is not longer than a row of a table can show."""
    if isinstance(value, str) and len(value) > LONGEST:
        return value[: LONGEST - 1] + "…"
    if isinstance(value, (list, tuple)) and len(value) > 20:
        return [*value[:20], "…"]
    return value
