"""What pages of reports are made of: tables and words as HTML, escaped and without secrets. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from html import escape

from hpc.report.masking import masked

Cell = str | int | float
#: A time for people, with its date where the job lasted over midnight.
Clock = Callable[[float], str]


def table(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Cells are HTML already; a head that begins with # is that of numbers."""
    numbers = [head.startswith("#") for head in heads]
    parts = ["<table>"]
    if heads:
        cells = (f"<th{_class(number)}>{escape(head.lstrip('#'))}</th>" for head, number in zip(heads, numbers))
        parts.append(f"<tr>{''.join(cells)}</tr>")
    for row in rows:
        flags = numbers or [False] * len(row)
        parts.append("<tr>" + "".join(f"<td{_class(n)}>{cell}</td>" for cell, n in zip(row, flags)) + "</tr>")
    return "\n".join([*parts, "</table>"])


def _class(number: bool) -> str:
    return ' class="n"' if number else ""


def lines(text: str, breaks: bool = True) -> str:
    """A text of the user's, as HTML."""
    shown = escape(masked(text))
    return shown.replace("\n", "<br>") if breaks else shown


def date(time_s: float) -> str:
    """A moment with its day."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time_s)) if time_s else ""


def clock(time_s: float) -> str:
    """A moment of a day."""
    return time.strftime("%H:%M:%S", time.gmtime(time_s)) if time_s else ""
