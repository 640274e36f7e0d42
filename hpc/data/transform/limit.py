"""The first rows of a task."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from hpc.data.transform.base import TaskContext


class Limit:
    """At most so many rows. When it has them it takes no further table, so what is read ends there."""

    keeps_rows = False

    def __init__(self, rows: int) -> None:
        self.rows = max(0, rows)

    @property
    def name(self) -> str:
        """What plans call it."""
        return f"limit={self.rows}"

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        left = self.rows
        while left > 0:
            table = next(tables, None)
            if table is None:
                return
            yield table if table.num_rows <= left else table.slice(0, left)
            left -= min(left, table.num_rows)
