"""Datasets of other libraries as sources: their items are read in tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from hpc.data.block import build
from hpc.data.io import given
from hpc.data.io.source import Estimate, Range, Source, SourceTask
from hpc.data.transform.base import TaskContext

#: Items that become one table.
ITEMS = 1024


class ItemsTask(SourceTask):
    """Some items of a dataset, by their numbers; with no end, all that it yields."""

    def __init__(self, items: Any, name: str, first: int, end: int | None, node: str | None) -> None:
        self.items = items
        self.name = name
        self.first = first
        self.end = end
        self.node = node
        self.rows = None if end is None else end - first
        self.key = f"{name} {first} {end}"

    @property
    def ranges(self) -> tuple[Range, ...]:
        return ((self.name, self.first, self.end),)

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        task.ranges = self.ranges
        if self.end is None:
            found = iter(self.items)
        else:
            found = (self.items[index] for index in range(self.first, self.end))
        at = self.first
        while True:
            task.source = f"{self.name} from item {at}"
            rows = list(islice(found, ITEMS))
            if not rows:
                return
            at += len(rows)
            yield build.from_items(rows) if self.name != "Torch" else build.from_rows([{"item": row} for row in rows])


class TorchSource(Source):
    """A dataset of torch: with a length in ranges, else in one task."""

    name = "Torch"

    def __init__(self, dataset: Any, local: bool) -> None:
        self.dataset = dataset
        self.node = given.this_node() if local else None
        self.length = len(dataset) if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") else None

    def estimate(self) -> Estimate:
        return Estimate(self.length, None, 0)

    def count(self) -> int | None:
        return self.length

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        if self.length is None:
            yield ItemsTask(self.dataset, self.name, 0, None, self.node)
            return
        count = max(1, min(parallelism if parallelism > 0 else 8, self.length))
        for index in range(count if self.length else 0):
            first, end = self.length * index // count, self.length * (index + 1) // count
            yield ItemsTask(self.dataset, self.name, first, end, self.node)


class IterableSource(Source):
    """Anything that yields rows (dicts) or items, read by one task."""

    def __init__(self, items: Iterable[Any], name: str) -> None:
        self.items = items
        self.name = name

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        yield ItemsTask(self.items, self.name, 0, None, None)
