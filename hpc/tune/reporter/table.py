"""Tables of texts and numbers, for terminals and notebooks. Numbers of a column have their points below one another.

The layout is the one that Ray's tables have (of the library tabulate): columns are two wider than their heads.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from hpc.tune.values import as_text

Style = Literal["psql", "rounded"]
Align = Literal["left", "right", "decimal"]
#: How much wider than its head a column is at least.
_ROOM = 2
_WHOLE = re.compile(r"[+-]?\d+\Z")


class _Frame(NamedTuple):
    """What a table is drawn with: of a line its left, between columns, right."""

    line: str
    top: tuple[str, str, str]
    middle: tuple[str, str, str]
    bottom: tuple[str, str, str]
    row: tuple[str, str, str]


_FRAMES: dict[Style, _Frame] = {
    "psql": _Frame("-", ("+", "+", "+"), ("|", "+", "|"), ("+", "+", "+"), ("|", "|", "|")),
    "rounded": _Frame("─", ("╭", "─", "╮"), ("├", "─", "┤"), ("╰", "─", "╯"), ("│", " ", "│")),
}
_ASCII = _Frame("-", ("+", "-", "+"), ("+", "-", "+"), ("+", "-", "+"), ("|", " ", "|"))


def draw(
    heads: Sequence[str],
    rows: Sequence[Sequence[Any]],
    style: Style = "psql",
    aligns: Sequence[Align] | None = None,
    unicode: bool = True,
) -> str:
    """The table as lines of text. A head may have several lines. unicode: False where a terminal cannot show it."""
    frame = _FRAMES[style] if unicode or style == "psql" else _ASCII
    split_heads = [head.split("\n") for head in heads]
    columns = [[row[i] for row in rows] for i in range(len(heads))]
    aligns = aligns or ["decimal" if _has_numbers(column) else "left" for column in columns]
    cells = [_column(column, align) for column, align in zip(columns, aligns, strict=True)]
    widths = [
        max([max(map(len, head)) + _ROOM, *map(len, column)]) for head, column in zip(split_heads, cells, strict=True)
    ]
    lines = [_line(frame, frame.top, widths)]
    for level in range(max(map(len, split_heads))):
        texts = [head[level] if level < len(head) else "" for head in split_heads]
        lines.append(_row(frame, texts, widths, aligns))
    lines.append(_line(frame, frame.middle, widths))
    lines += [_row(frame, texts, widths, aligns) for texts in zip(*cells, strict=True)]
    lines.append(_line(frame, frame.bottom, widths))
    return "\n".join(lines)


def draw_html(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The table for a notebook."""
    columns = [[row[i] for row in rows] for i in range(len(heads))]
    right = [' style="text-align: right;"' if _has_numbers(column) else "" for column in columns]
    head = "".join(f"<th{how}>{html.escape(text)}</th>" for text, how in zip(heads, right, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{how}>{html.escape(text_of(one))}</td>" for one, how in zip(row, right, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def text_of(value: Any) -> str:
    """A cell: numbers with six digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool) or not _is_number(value):
        return as_text(value)
    return str(value) if _is_whole(value) else format(float(value), "g")


def _has_numbers(column: Sequence[Any]) -> bool:
    """Whether a column has numbers, and at most gaps beside them."""
    there = [one for one in column if one is not None and one != ""]
    return bool(there) and all(not isinstance(one, bool) and _is_number(one) for one in there)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return False
    try:
        float(value)
    except OverflowError:
        return True
    except Exception:
        return False
    return True


def _is_whole(value: Any) -> bool:
    try:
        return value.__index__() is not None
    except (AttributeError, TypeError):
        return False


def _column(column: Sequence[Any], align: Align) -> list[str]:
    texts = [text_of(one) for one in column]
    if align != "decimal":
        return texts
    after = [_after_point(text) for text in texts]
    most = max(after, default=-1)
    return [text + " " * (most - count) for text, count in zip(texts, after, strict=True)]


def _after_point(text: str) -> int:
    """How many characters a number has after its point, or its exponent; -1 for a whole one."""
    if _WHOLE.match(text):
        return -1
    place = text.rfind(".")
    if place < 0:
        place = text.lower().rfind("e")
    try:
        float(text)
    except ValueError:
        return -1
    return len(text) - place - 1 if place >= 0 else -1


def _row(frame: _Frame, texts: Sequence[str], widths: Sequence[int], aligns: Sequence[Align]) -> str:
    padded = [
        f" {text.ljust(width) if align == 'left' else text.rjust(width)} "
        for text, width, align in zip(texts, widths, aligns, strict=True)
    ]
    left, between, right = frame.row
    return f"{left}{between.join(padded)}{right}"


def _line(frame: _Frame, corners: tuple[str, str, str], widths: Sequence[int]) -> str:
    left, between, right = corners
    return left + between.join(frame.line * (width + 2) for width in widths) + right
