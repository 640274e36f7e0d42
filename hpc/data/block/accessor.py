"""A block as code written for Ray Data's ``BlockAccessor`` wants it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from hpc.data.block import batch, build

#: What a block is, and a batch of its rows.
Block: TypeAlias = pa.Table
DataBatch: TypeAlias = Any


@dataclass(frozen=True)
class BlockMetadata:
    """What is known of a block, or of all that a ReadTask will read: None for what is not."""

    num_rows: int | None = None
    size_bytes: int | None = None
    exec_stats: Any = None
    task_exec_stats: Any = None
    input_files: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.input_files is not None:
            object.__setattr__(self, "input_files", tuple(self.input_files))


class BlockAccessor:
    """The rows of a block in other forms."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @staticmethod
    def for_block(block: Any) -> BlockAccessor:
        """The accessor of a table, a DataFrame or a dict of columns."""
        return BlockAccessor(build.table(block, "BlockAccessor.for_block"))

    def num_rows(self) -> int:
        """The number of rows."""
        return self.table.num_rows

    def size_bytes(self) -> int:
        """The bytes of the table."""
        return self.table.nbytes

    def schema(self) -> pa.Schema:
        """The columns and their types."""
        return self.table.schema

    def column_names(self) -> list[str]:
        """The names of the columns."""
        return self.table.column_names

    def to_arrow(self) -> pa.Table:
        """The table itself."""
        return self.table

    def to_pandas(self) -> Any:
        """A pandas DataFrame."""
        return batch.to_pandas(self.table)

    def to_numpy(self, columns: str | list[str] | None = None) -> np.ndarray | dict[str, np.ndarray]:
        """The array of one column, or the arrays of some (None: all) by their names. Raises ValueError for others."""
        names = self.table.column_names if columns is None else [columns] if isinstance(columns, str) else columns
        if missing := [name for name in names if name not in self.table.column_names]:
            raise ValueError(f"there are no columns {missing}; there are {self.table.column_names}")
        arrays = {name: batch.column_to_numpy(self.table[name]) for name in names}
        return arrays[columns] if isinstance(columns, str) else arrays

    def to_block(self) -> pa.Table:
        """The table itself."""
        return self.table

    def iter_rows(self, public_row_format: bool = True) -> Iterator[dict[str, Any]]:
        """The rows as dicts."""
        return batch.rows(self.table)

    def slice(self, start: int, end: int, copy: bool = False) -> pa.Table:
        """The rows from ``start`` to before ``end``."""
        return self.table.slice(start, end - start)
