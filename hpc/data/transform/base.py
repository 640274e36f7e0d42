"""What runs inside a task: a transform takes tables and gives tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa


@dataclass(slots=True)
class TaskContext:
    """What a transform may know of the task that it runs in.

    op: the name of the operator.
    index: the number of the task among those of its operator; the same for each attempt.
    row: the number of its first row among those of the operator's input; None where only reading tells that.
    attempt: 0, and one more for each time that the task began again.
    seed: the seed of the dataset, or None.
    context: the DataContext of the dataset.
    source: the file and the rows that are being read now. A reader sets it, and errors name it.
    epoch: how often the dataset ran before; the context knows it.
    counters: numbers that the task reports beside its blocks, by name.
    ranges: the parts of the source that the task reads: file, first unit and end (None: all). A reader sets them, and a
        ledger of writes names them.
    """

    op: str = ""
    index: int = 0
    row: int | None = None
    attempt: int = 0
    seed: int | None = None
    context: Any = None
    source: str = ""
    epoch: int = 0
    counters: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.epoch = self.epoch or getattr(self.context, "_execution_idx", 0)

    ranges: tuple[tuple[str, int, int | None], ...] = ()


class Transform(Protocol):
    """A picklable step of a task.

    keeps_rows: each row gives one row, in the same order.
    """

    @property
    def name(self) -> str:
        """What it is called in plans, statistics and errors."""
        ...

    @property
    def keeps_rows(self) -> bool:
        """Whether each row gives exactly one row, in the same order."""
        ...

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        """The tables that become of these. It takes one at a time, and keeps none that it has given on."""
        ...
