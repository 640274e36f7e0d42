"""A random part of the rows."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from hpc.data.block.views import filtered
from hpc.data.expr.special import Draws
from hpc.data.transform.base import TaskContext


class RandomSample:
    """Each row with a probability. The same seed takes the same rows, however they come in tables.

    reseed: each run of the dataset takes others. Raises ValueError for a fraction that is not between 0 and 1.
    """

    name = "RandomSample"
    keeps_rows = False

    def __init__(self, fraction: float, seed: int | None = None, reseed: bool = False) -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"Fraction must be between 0 and 1, not {fraction}")
        self.fraction = fraction
        self.seed = seed
        self.reseed = reseed
        #: That a seed says which rows it takes.
        self.draws = seed is not None

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        numbers = Draws(task, self.seed, self.reseed)
        for table in tables:
            yield filtered(table, pa.array(numbers.next(table.num_rows) < self.fraction))
