"""Sources that make their rows: ranges of numbers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from copy import copy
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.cells import FEW, Cells
from hpc.data.io.grouping import without
from hpc.data.io.narrow import Narrow
from hpc.data.io.source import Estimate, Range, Source, SourceTask
from hpc.data.transform.base import TaskContext

#: A table of a range has about so many bytes, and a task about so many.
TABLE = 8 << 20
TASK = 32 << 20
_WHOLE = Narrow()


class RangeTask(SourceTask):
    """The numbers from ``first`` to ``end``; each one fills a tensor where there is a shape. There may be as many of
    these as rows: they are pickled as these four values."""

    def __init__(self, first: int, end: int, shape: tuple[int, ...] | None, narrow: Narrow) -> None:
        self.first = first
        self.end = end
        self.shape = shape
        self.narrow = narrow
        self.rows: int = end - first if narrow.limit is None else min(end - first, narrow.limit)

    def __reduce__(self) -> tuple[type[RangeTask], tuple[Any, ...]]:
        return RangeTask, (self.first, self.end, self.shape, self.narrow)

    @property
    def nbytes(self) -> int:  # type: ignore[override]
        return self.rows * row_bytes(self.shape)

    @property
    def key(self) -> str:  # type: ignore[override]
        return f"range {self.first} {self.end}"

    @property
    def where(self) -> str:
        return f"range rows {self.first} to {self.end}"

    @property
    def ranges(self) -> tuple[Range, ...]:
        return (("range", self.first, self.end),)

    def cells(self, task: TaskContext) -> Cells | None:
        if not 0 < self.rows <= FEW or self.shape is not None or self.narrow != _WHOLE:
            return None
        task.ranges = self.ranges
        end = self.first + self.rows
        task.source = f"range rows {self.first} to {end}"
        return Cells(("id",), "i", [list(range(self.first, end))], 8 * self.rows)

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        task.ranges = self.ranges
        step = max(1, TABLE // row_bytes(self.shape))
        end = self.first + self.rows
        for first in range(self.first, end, step):
            numbers = np.arange(first, min(end, first + step), dtype=np.int64)
            task.source = f"range rows {first} to {first + len(numbers)}"
            yield self.narrow.apply(table_of(numbers, self.shape))


class RangeSource(Source):
    """The column ``id`` with the numbers below ``n``; with a shape, the column ``data`` of tensors of each number."""

    name = "Range"

    def __init__(self, n: int, shape: tuple[int, ...] | None = None) -> None:
        self.n = max(0, n)
        self.shape = shape
        self.narrow = Narrow()
        self.done: list[tuple[int, int | None]] = []

    def estimate(self) -> Estimate:
        return Estimate(self.n, self.n * row_bytes(self.shape), 0)

    def schema(self) -> pa.Schema:
        return self.narrow.schema(table_of(np.arange(1, dtype=np.int64), self.shape).schema)

    def count(self) -> int | None:
        return self.n if self.narrow.limit is None else None

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        if parallelism <= 0:
            parallelism = max(1, self.n * row_bytes(self.shape) // TASK)
        count = min(parallelism, self.n)
        size, more = divmod(self.n, count) if count else (0, 0)
        first = 0
        for index in range(count):
            end = first + size + (index < more)
            for low, high in without(self.done, first, end):
                yield RangeTask(low, end if high is None else high, self.shape, self.narrow)
            first = end

    def without(self, done: Collection[Range]) -> Source:
        other = copy(self)
        other.done = [*self.done, *((first, end) for _, first, end in done)]
        return other

    def with_columns(self, names: list[str]) -> Source:
        other = copy(self)
        other.narrow = self.narrow.with_columns(names)
        return other

    def with_limit(self, rows: int) -> Source:
        other = copy(self)
        other.narrow = self.narrow.with_limit(rows)
        return other


def row_bytes(shape: tuple[int, ...] | None) -> int:
    return 8 * max(1, math.prod(shape or ()))


def table_of(numbers: np.ndarray, shape: tuple[int, ...] | None) -> pa.Table:
    if shape is None:
        return pa.table({"id": numbers})
    values = np.broadcast_to(numbers.reshape(-1, *(1 for _ in shape)), (len(numbers), *shape))
    return pa.table({"data": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))})
