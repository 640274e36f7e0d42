"""The face of all that can be written to: what a write does in the driver, and at the end of each task.

    begin(schema) -> transform(write_id) in each task -> complete(results), or failed(error)

A task's transform takes all its tables and yields one small table that says what it has written (RESULT). What it
writes becomes visible at the end of the task, under names that do not depend on the attempt.
"""

from __future__ import annotations

import pyarrow as pa

from hpc.data.transform.base import Transform

#: One row for each file that a task has written, or one for the task where there are no files (path is null then).
#: ``returned`` is what a Datasink's ``write`` returned, pickled.
RESULT = pa.schema([("path", pa.string()), ("rows", pa.int64()), ("bytes", pa.int64()), ("returned", pa.binary())])


class Sink:
    """Somewhere to write to.

    ``min_rows_per_write`` and ``min_bytes_per_write``: tasks are given at least so much where there is enough data;
    None leaves it to the executor. ``distributed``: whether tasks may run on nodes other than the driver's.
    """

    name: str = "Write"
    min_rows_per_write: int | None = None
    min_bytes_per_write: int | None = None
    distributed: bool = True

    def begin(self, schema: pa.Schema | None) -> bool:
        """Make the place ready, in the driver, before any task. False: there is nothing to do, and nothing must run.

        Raises ValueError or OSError where the mode forbids to write.
        """
        return True

    def transform(self, write_id: str) -> Transform:
        """The last transform of each task's chain. ``write_id`` is the same for all tasks of a write."""
        raise NotImplementedError

    def complete(self, results: list[pa.Table]) -> None:
        """End the write, in the driver, with the RESULT tables of all tasks. What it raises goes to failed."""

    def failed(self, error: BaseException) -> None:
        """Clean up after a write that failed, in the driver, as far as it can be done."""
