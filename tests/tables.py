"""Tables of reports, with pandas and without."""

from __future__ import annotations

from typing import Any


def rows_of(table: Any) -> list[dict[str, Any]]:
    """The rows of a DataFrame, or of the list of dicts that is there without pandas."""
    rows: list[dict[str, Any]] = table if isinstance(table, list) else table.to_dict("records")
    return rows
