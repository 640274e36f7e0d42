"""Rows that have no columns, as `select_columns([])` leaves them.

Arrow forgets how many rows such a table has when it is sent, sliced or put behind another. So these rows keep one
column of nulls, which takes no memory and which users never see.
"""

from __future__ import annotations

import pyarrow as pa

#: The name of the column of nulls.
NAME = "__rows_without_columns"


def bare(rows: int) -> pa.Table:
    """Rows without columns: so many of them."""
    return pa.table({NAME: pa.nulls(rows)})


def is_bare(schema: pa.Schema) -> bool:
    """Whether rows of this schema have no column."""
    return len(schema) == 1 and schema.field(0).name == NAME


def names(schema: pa.Schema) -> list[str]:
    """The columns that users see."""
    return [] if is_bare(schema) else list(schema.names)
