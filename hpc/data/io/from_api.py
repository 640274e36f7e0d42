"""Datasets of numbers, of what is in the driver's memory, and of the datasets of other libraries."""

from __future__ import annotations

import builtins
import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

import hpc
from hpc import spi
from hpc.data.block import build, promote
from hpc.data.io.given import Dataset
from hpc.data.io.given import dataset as source_dataset
from hpc.data.io.given import parallelism as given_parallelism
from hpc.data.io.memory import RangeSource
from hpc.data.io.outside import IterableSource, TorchSource

#: Items of a list become blocks of so many, or of fewer, so that all CPUs have some.
ITEMS = 1000


def range(
    n: int, *, parallelism: int = -1, concurrency: int | None = None, override_num_blocks: int | None = None
) -> Dataset:
    """The column ``id`` with the numbers from 0 to n - 1."""
    return source_dataset(RangeSource(n), locals())


def range_tensor(
    n: int,
    *,
    shape: tuple[int, ...] = (1,),
    parallelism: int = -1,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
) -> Dataset:
    """The column ``data`` with tensors of ``shape``, each filled with one number from 0 to n - 1."""
    return source_dataset(RangeSource(n, tuple(shape)), locals())


def from_items(items: list[Any], *, parallelism: int = -1, override_num_blocks: int | None = None) -> Dataset:
    """Dicts as rows; any other items as the column ``item``."""
    if not isinstance(items, Sequence):
        items = list(items)
    wanted = number_of_blocks(locals(), max(int(2 * cpus_of_session()), min(200, len(items) // ITEMS)))
    if not items:
        return of_blocks([])
    whole = build.from_items(items)  # all at once, so that columns are of one type in all blocks
    return of_blocks([whole.slice(first, end - first) for first, end in shares(len(items), wanted)])


def from_blocks(blocks: list[Any]) -> Dataset:
    """Tables, DataFrames or dicts of columns: a block for each."""
    return of_blocks([build.table(block, "from_blocks") for block in blocks])


def from_pandas(dfs: Any, override_num_blocks: int | None = None) -> Dataset:
    """DataFrames of pandas: a block for each. Their index is left out."""
    frames = dfs if isinstance(dfs, (list, tuple)) else [dfs]
    return cut([build.table(frame, "from_pandas") for frame in frames], override_num_blocks)


def from_numpy(ndarrays: Any) -> Dataset:
    """Arrays as the column ``data``: a block for each, and a row for each step along its first axis."""
    arrays = [ndarrays] if isinstance(ndarrays, np.ndarray) else list(ndarrays)
    if not arrays:
        raise ValueError("from_numpy takes an array, or a list of at least one")
    return of_blocks([of_array(array) for array in arrays])


def from_arrow(tables: Any, *, override_num_blocks: int | None = None) -> Dataset:
    """Tables of pyarrow, or bytes of Arrow's stream format: a block for each."""
    found = tables if isinstance(tables, (list, tuple)) else [tables]
    return cut([of_arrow(table) for table in found], override_num_blocks)


def from_arrow_refs(tables: Any) -> Dataset:
    """References to what ``from_arrow`` takes."""
    return converted(of_arrow, tables)


def from_pandas_refs(dfs: Any) -> Dataset:
    """References to DataFrames of pandas."""
    return converted(of_frame, dfs)


def from_numpy_refs(ndarrays: Any) -> Dataset:
    """References to arrays."""
    return converted(of_array, ndarrays)


def from_torch(dataset: Any, local_read: bool = False) -> Dataset:
    """The items of a dataset of torch, in the column ``item``.

    Ranges of a dataset with a length are read by several tasks; an iterable one by one task. ``local_read``: on the
    driver's node alone.
    """
    return source_dataset(TorchSource(dataset, local_read), {})


def from_huggingface(
    dataset: Any, parallelism: int = -1, concurrency: int | None = None, override_num_blocks: int | None = None
) -> Dataset:
    """The rows of a dataset of Hugging Face: its Arrow tables where it has them, else its items, read by one task."""
    given = {"parallelism": parallelism, "override_num_blocks": override_num_blocks, "concurrency": concurrency}
    if isinstance(dataset, dict):
        raise ValueError(f"this is a dict of datasets; give one of its splits, {sorted(dataset)}")
    if hasattr(dataset, "num_rows") and hasattr(dataset, "with_format"):
        size = max(1, min(200, dataset.num_rows // ITEMS))
        arrow = dataset.with_format("arrow")
        tables = [arrow[first:end] for first, end in shares(dataset.num_rows, number_of_blocks(given, size))]
        return of_blocks([table.replace_schema_metadata(None) for table in tables])
    return source_dataset(IterableSource(dataset, "HuggingFace"), given)


def from_tf(dataset: Any) -> Dataset:
    """The items of a ``tf.data.Dataset``, read in the driver."""
    return from_items(list(dataset.as_numpy_iterator()))


def from_dask(df: Any) -> Dataset:
    """The partitions of a DataFrame of dask, each computed by a task."""
    return converted(of_delayed, df.to_delayed(), put=True)


def from_modin(df: Any) -> Dataset:
    """The rows of a DataFrame of modin."""
    return from_pandas(df._to_pandas() if hasattr(df, "_to_pandas") else df.to_pandas())


def from_daft(df: Any) -> Dataset:
    """The rows of a DataFrame of daft."""
    return from_arrow(df.to_arrow())


def from_spark(df: Any, *, parallelism: int | None = None, override_num_blocks: int | None = None) -> Dataset:
    """The rows of a DataFrame of Spark, collected by the driver."""
    wanted = override_num_blocks or parallelism
    if hasattr(df, "toArrow"):
        return from_arrow(df.toArrow(), override_num_blocks=wanted)
    return from_pandas(df.toPandas(), override_num_blocks=wanted)


# ---------------------------------------------------------------- parts of these


def of_blocks(tables: Iterable[Any]) -> Dataset:
    """The dataset of blocks, or of references to blocks."""
    return importlib.import_module("hpc.data.dataset").from_blocks(tables)


def cpus_of_session() -> float:
    """The CPUs of all nodes that are open."""
    return float(sum(room.total.get("CPU", 0.0) for room in spi.rooms() if room.is_open))


def number_of_blocks(given: dict[str, Any], usual: int) -> int:
    wanted = given_parallelism(given)
    return usual if wanted == -1 else wanted


def shares(rows: int, wanted: int) -> list[tuple[int, int]]:
    """The ends of about equal parts, the larger ones first; none is empty, unless there are no rows at all."""
    count = max(1, min(wanted, rows))
    size, more = divmod(rows, count)
    starts = [size * index + min(index, more) for index in builtins.range(count)]
    return [(start, start + size + (index < more)) for index, start in enumerate(starts)]


def cut(tables: list[pa.Table], wanted: int | None) -> Dataset:
    """The dataset of tables: each is a block, or all together are so many blocks."""
    if wanted is None or not tables:
        return of_blocks(tables)
    whole = promote.concat(tables)
    number = given_parallelism({"override_num_blocks": wanted})
    return of_blocks([whole.slice(first, end - first) for first, end in shares(whole.num_rows, number)])


def converted(function: Any, values: Any, put: bool = False) -> Dataset:
    """The dataset of what a function makes, in a task for each, of references (or of values)."""
    several = list(values) if isinstance(values, (list, tuple)) or put else [values]
    remote: Any = hpc.remote(function)
    return of_blocks([remote.remote(value) for value in several])


def of_array(array: Any) -> pa.Table:
    found = np.asarray(array)
    if found.ndim == 0:
        raise TypeError("an array without an axis has no rows")
    return build.table({"data": found}, "from_numpy")


def of_frame(frame: Any) -> pa.Table:
    return build.table(frame, "from_pandas")


def of_arrow(table: Any) -> pa.Table:
    if isinstance(table, (bytes, memoryview)):
        with pa.ipc.open_stream(table) as stream:
            return stream.read_all()
    if not isinstance(table, (pa.Table, pa.RecordBatch)):
        raise TypeError(f"from_arrow takes tables of pyarrow, and not {type(table).__name__}")
    return build.table(table, "from_arrow")


def of_delayed(partition: Any) -> pa.Table:
    return build.table(partition.compute(scheduler="sync"), "from_dask")
