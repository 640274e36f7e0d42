"""The rows of a table that a mask lets pass."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.block.views import filtered


def passing(table: pa.Table, mask: Any) -> pa.Table:
    """The rows whose mask is true; a view of the table, where all or none of them are."""
    if isinstance(mask, (pa.Array, pa.ChunkedArray)) and pa.types.is_boolean(mask.type):
        if not mask.null_count and pc.all(mask, min_count=0).as_py():
            return table
        if not pc.any(mask, min_count=0).as_py():
            return table.slice(0, 0)
    return filtered(table, mask)
