"""The number of rows in place of the rows."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from hpc.data.transform.base import TaskContext


class RowCount:
    """One row for each task: how many it has seen. So only numbers leave the tasks of a count."""

    name = "RowCount"
    keeps_rows = False

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        yield pa.table({"rows": pa.array([sum(table.num_rows for table in tables)], pa.int64())})
