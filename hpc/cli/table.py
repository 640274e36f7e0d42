"""Rows as columns, for people."""

from __future__ import annotations

from collections.abc import Sequence


def show_table(
    rows: Sequence[Sequence[object]], *, indent: str = "", gap: str = "  ", least: Sequence[int] = ()
) -> None:
    """Print rows, each column as wide as its longest cell, and as ``least`` says; the last one is ragged."""
    lines = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for i, width in enumerate(least[: len(widths)]):
        widths[i] = max(widths[i], width)
    for line in lines:
        cells = gap.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(f"{indent}{cells}".rstrip())
