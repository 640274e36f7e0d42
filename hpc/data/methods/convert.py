"""Methods that give a dataset to another library."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

import hpc
from hpc.data import running
from hpc.data.block import batch
from hpc.data.methods import look, staging
from hpc.data.packages import needs
from hpc.data.plan import nodes
from hpc.data.planned import Planned


def to_pandas(self: Planned, limit: int | None = None) -> Any:
    """All rows as one DataFrame. It runs. Raises ValueError where there are more than ``limit``."""
    if limit is not None:
        there = look.count(self)
        if there > limit:
            raise ValueError(
                f"the dataset has more than the given limit of {limit} rows: {there}. "
                f"If a DataFrame of {there} rows fits into memory, set ds.to_pandas(limit=None)."
            )
    return batch.to_batch(staging.together([table for table in self.tables() if table.num_rows]), "pandas", False)


def _of_each(self: Planned, function: Any, *arguments: Any) -> list[Any]:
    """References to what a function makes of each block, where the blocks are."""
    make = hpc.remote(function)
    return [make.remote(handle.ref, *arguments) for handle in self.handles()]


def to_pandas_refs(self: Planned) -> list[Any]:
    """References to DataFrames, one for each block. It runs."""
    return _of_each(self, batch.to_batch, "pandas")


def _arrays(table: pa.Table, column: str | None) -> Any:
    arrays = batch.to_batch(table, "numpy")
    return arrays if column is None else arrays[column]


def to_numpy_refs(self: Planned, *, column: str | None = None) -> list[Any]:
    """References to dicts of arrays, one for each block, or to the arrays of one column. It runs."""
    return _of_each(self, _arrays, column)


def to_arrow_refs(self: Planned) -> list[Any]:
    """References to Arrow tables, one for each block. It runs."""
    return [handle.ref for handle in self.handles()]


def to_dask(self: Planned, meta: Any = None, verify_meta: bool = True) -> Any:
    """A Dask DataFrame with a partition for each block. It runs. Raises ImportError where Dask is missing."""
    frames = needs("dask.dataframe", "to_dask", "Dask", "'dask[dataframe]'")
    handles = list(self.handles())
    if meta is None:
        schema = look.schema(self.kept(handles))
        empty = pa.table({}) if schema is None else schema.base_schema.empty_table()
        meta = batch.to_batch(empty, "pandas")
    return frames.from_map(_frame, handles, meta=meta, enforce_metadata=verify_meta)


def _frame(handle: nodes.BlockHandle) -> Any:
    return batch.to_batch(running.get(handle), "pandas", False)


def to_daft(self: Planned) -> Any:
    """A DataFrame of Daft. It runs. Raises ImportError where Daft is missing."""
    daft = needs("daft", "to_daft", "Daft", "daft")
    return daft.from_arrow(staging.together([table for table in self.tables() if table.num_rows]))


def to_modin(self: Planned) -> Any:
    """A DataFrame of Modin. It runs. Raises ImportError where Modin is missing."""
    return needs("modin.pandas", "to_modin", "Modin", "modin").DataFrame(to_pandas(self))


def to_spark(self: Planned, spark: Any) -> Any:
    """A DataFrame of a session of Spark, made by the driver of all rows. It runs."""
    return spark.createDataFrame(to_pandas(self))
