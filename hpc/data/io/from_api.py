"""Datasets of numbers, and of what is in the driver's memory already."""

from __future__ import annotations

from hpc.data.io.given import Dataset, dataset
from hpc.data.io.memory import RangeSource


def range(
    n: int, *, parallelism: int = -1, concurrency: int | None = None, override_num_blocks: int | None = None
) -> Dataset:
    """The column ``id`` with the numbers from 0 to n - 1."""
    return dataset(RangeSource(n), locals())


def range_tensor(
    n: int,
    *,
    shape: tuple[int, ...] = (1,),
    parallelism: int = -1,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
) -> Dataset:
    """The column ``data`` with tensors of ``shape``, each filled with one number from 0 to n - 1."""
    return dataset(RangeSource(n, tuple(shape)), locals())
