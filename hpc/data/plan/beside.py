"""Tables side by side."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa


def beside(tables: Sequence[pa.Table]) -> pa.Table:
    """The columns of all, which have as many rows. A name that is there already gets a number behind it."""
    table, *others = tables
    for other in others:
        names = set(table.column_names)
        for name, column in zip(other.column_names, other.columns):
            free, number = name, 1
            while free in names:
                free, number = f"{name}_{number}", number + 1
            names.add(free)
            table = table.append_column(free, column)
    return table
