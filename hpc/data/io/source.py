"""The face of all that can be read: a source is asked for tasks, and a task for tables.

A source lives in the driver. Its tasks are pickled, run anywhere, and open what they read there. The same source with
the same parallelism yields the same tasks in the same order, in each process: retries and resumed runs depend on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

    from hpc.data.block.cells import Cells
    from hpc.data.transform.base import TaskContext

#: An expression over columns.
Expr: TypeAlias = Any
#: A part of a source: a file (or another name), its first unit (row group, byte, row), and the end (None: all).
Range: TypeAlias = "tuple[str, int, int | None]"


#: This many files of a listing are waited for before the first task, and are looked at for an estimate. Tasks of fewer
#: are balanced exactly.
HEAD = 1024


class Estimate(NamedTuple):
    """What is known of a source before it is read. ``nbytes`` is the size as Arrow tables; None means unknown.

    Of a long listing only the beginning is known: ``files`` and ``nbytes`` are its, then.
    """

    rows: int | None
    nbytes: int | None
    files: int

    @property
    def whole_nbytes(self) -> int | None:
        """The size of all of it; None where only the beginning was looked at."""
        return None if self.files >= HEAD else self.nbytes


class SourceTask:
    """A part of a source that one task reads.

    ``rows`` and ``nbytes`` (as Arrow tables) are None where they are unknown. ``key`` names the part, by file and row
    range: it is the same in each run over the same files. ``node`` is the id of the only node that can read it.
    """

    rows: int | None = None
    nbytes: int | None = None
    files: tuple[str, ...] = ()
    key: str = ""
    node: str | None = None

    @property
    def where(self) -> str:
        """Which rows these are, for messages: files, and what of them."""
        return ", ".join(self.files[:3]) + (", ..." if len(self.files) > 3 else "")

    @property
    def ranges(self) -> tuple[Range, ...]:
        """What is read, in ranges that do not depend on how many tasks there are, where the source knows such."""
        return ((self.key, 0, None),)

    def with_columns(self, names: Sequence[str]) -> SourceTask | None:
        """The same part with these columns alone; None: it cannot leave out columns."""
        return None

    def cells(self, task: TaskContext) -> Cells | None:
        """Its rows as Python values, where it knows that they are few and plain; else None, and they are to be read.

        It sets what `read` sets."""
        return None

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        """The tables of this part, in order; the same ones each time.

        Sets ``task.ranges`` when it begins, and ``task.source`` to what is being read.
        """
        raise NotImplementedError


class Source:
    """Something that can be read, possibly narrowed to columns, to rows that pass a filter, or to the first rows."""

    #: What is read, in one word, for plans and progress: "Parquet" is shown as ReadParquet.
    name: str = "Source"
    #: Its tasks can read some columns in about that share of the time that all of them take.
    reads_columns_alone: bool = False

    def estimate(self) -> Estimate:
        """What is known at once, without a full listing or an open file where that is possible."""
        return Estimate(None, None, 0)

    def schema(self) -> pa.Schema | None:
        """The columns that tasks will yield, from metadata or the first file; None where only reading can tell."""
        return None

    def count(self) -> int | None:
        """The exact number of rows, from metadata alone (footers); None where only reading can tell."""
        return None

    def files(self) -> list[str]:
        """All files that tasks will read, in order."""
        return []

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        """The parts, in order and lazily: the first one comes before a listing has ended.

        ``parallelism`` is the number of tasks that is wanted; -1 leaves it to the source. It is a wish: a source may
        have fewer parts than that, or large ones that must be cut further.
        """
        raise NotImplementedError

    def without(self, done: Collection[Range]) -> Source:
        """This source without ranges that tasks of it, or of an earlier run of it, have read."""
        return Remaining(self, frozenset(done))

    def counts(self, tasks: Iterable[SourceTask]) -> Iterator[int | None]:
        """The rows of each of its tasks, lazily: metadata is read where it tells more than the task knows."""
        return (task.rows for task in tasks)

    def behind(self, task: SourceTask, rows: int) -> tuple[int, SourceTask]:
        """A task without those of its first rows, at most so many, that it need not read; and how many those are."""
        return 0, task

    # -------------------------------------------------------------- what a plan may move into the source

    def with_columns(self, names: list[str]) -> Source | None:
        """This source with exactly these columns in this order; None: it cannot leave out columns."""
        return None

    def with_filter(self, expr: Expr) -> Source | None:
        """This source with exactly the rows for which the expression is true; None: it cannot tell them apart."""
        return None

    def with_limit(self, rows: int) -> Source | None:
        """This source with tasks that end after so many rows each; the plan keeps its limit. None: it cannot."""
        return None

    def with_dictionaries(self, names: list[str]) -> Source | None:
        """This source, which may give these columns of texts as dictionaries where that is faster; None: it does not.

        Only for what takes both."""
        return None


class Remaining(Source):
    """A source without some of its tasks."""

    def __init__(self, source: Source, done: frozenset[Range]) -> None:
        self.source = source
        self.done = done
        self.name = source.name

    def schema(self) -> pa.Schema | None:
        return self.source.schema()

    def files(self) -> list[str]:
        return self.source.files()

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        return (task for task in self.source.tasks(parallelism) if not self.done.issuperset(task.ranges))
