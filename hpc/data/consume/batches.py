"""Batches for a consumer: of an exact number of rows, in the format that was asked for, shuffled within a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from hpc.data.block.batch import FORMATS, Batcher, to_batch
from hpc.data.consume.shuffle import LocalShuffle, shuffled
from hpc.data.consume.times import FORMAT, Times
from hpc.data.consume.views import numpy_batches


def check(batch_size: int | None, batch_format: str | None, local_shuffle: LocalShuffle | None) -> None:
    """Raise ValueError for a size below 1, an unknown format, or a shuffle without a size."""
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size must be a positive number of rows or None, not {batch_size!r}")
    if batch_format not in FORMATS:
        raise ValueError(f"batch_format is one of {FORMATS}, not {batch_format!r}")
    if local_shuffle is not None and batch_size is None:
        raise ValueError("Must specify a batch_size if using a local shuffle.")


def assemble(
    tables: Iterator[pa.Table],
    batch_size: int | None,
    batch_format: str | None = "default",
    drop_last: bool = False,
    local_shuffle: LocalShuffle | None = None,
    times: Times | None = None,
) -> Iterator[Any]:
    """The batches of a stream of tables.

    Each has exactly `batch_size` rows, and only the last is shorter, or dropped. Without a size each table is a batch.
    Arrays are views of the blocks where that is possible. ``times``: where its time is counted. Raises ValueError as
    `check` does.
    """
    check(batch_size, batch_format, local_shuffle)

    formatted: Callable[[Any], Any] = partial(to_batch, batch_format=batch_format)
    if times is not None:
        formatted = times.call(FORMAT, formatted)
    as_numpy = batch_format in ("default", "numpy")
    if local_shuffle is not None and batch_size is not None:
        drawn = shuffled(tables, batch_size, local_shuffle, drop_last, as_numpy)
        return drawn if as_numpy else map(formatted, drawn)
    if as_numpy and batch_size is not None:
        return numpy_batches(tables, batch_size, drop_last)
    return map(formatted, Batcher(batch_size, drop_last).batches(tables))


def count(rows: int, batch_size: int | None, drop_last: bool = False) -> int | None:
    """How many batches so many rows give; None without a size, as that is the number of blocks."""
    if batch_size is None:
        return None
    return rows // batch_size if drop_last else -(-rows // batch_size)
