"""Sources of a user's own: Ray Data's ``Datasource`` and ``ReadTask``, and how they become sources of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from hpc.data.block import build
from hpc.data.block.accessor import BlockMetadata
from hpc.data.io import given
from hpc.data.io.files import FileSource, named
from hpc.data.io.formats import Format
from hpc.data.io.grouping import Piece
from hpc.data.io.narrow import Narrow
from hpc.data.io.opened import OpenFile
from hpc.data.io.source import Estimate, Source, SourceTask
from hpc.data.transform.base import TaskContext


class ReadTask:
    """A function that reads some blocks, and what is known of them before."""

    def __init__(
        self,
        read_fn: Callable[[], Iterable[Any]],
        metadata: BlockMetadata,
        schema: Any = None,
        per_task_row_limit: int | None = None,
    ) -> None:
        self.read_fn = read_fn
        self.metadata = metadata
        self.schema = schema
        self.per_task_row_limit = per_task_row_limit

    def __call__(self) -> Iterator[Any]:
        """The blocks, at most ``per_task_row_limit`` rows of them."""
        blocks = self.read_fn()
        if not isinstance(blocks, Iterable) or isinstance(blocks, (pa.Table, dict)):
            raise TypeError(f"a read function returns an iterable of blocks, such as [block], and not {type(blocks)}")
        if self.per_task_row_limit is None:
            yield from blocks
            return
        yield from Narrow(limit=self.per_task_row_limit).limited(build.table(block, "a ReadTask") for block in blocks)


class Datasource:
    """Override ``get_read_tasks`` and ``estimate_inmemory_data_size`` to read from somewhere else."""

    def __init__(self) -> None:
        pass

    def get_name(self) -> str:
        """What the source is called in plans and progress."""
        return type(self).__name__.removesuffix("Datasource")

    def estimate_inmemory_data_size(self) -> int | None:
        """The bytes of all blocks, about, or None."""
        raise NotImplementedError(f"{type(self).__name__} has no estimate_inmemory_data_size")

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """The tasks, ``parallelism`` of them where that is possible."""
        raise NotImplementedError(f"{type(self).__name__} has no get_read_tasks")

    @property
    def supports_distributed_reads(self) -> bool:
        """Whether tasks may run on nodes other than the driver's."""
        return True

    def as_source(self) -> Source:
        """The source that runs these tasks."""
        return DatasourceSource(self)


class DatasourceTask(SourceTask):
    """A task of a user's own."""

    def __init__(self, task: ReadTask, index: int, name: str, node: str | None) -> None:
        self.task = task
        self.index = index
        self.name = name
        self.node = node
        self.rows = task.metadata.num_rows
        self.nbytes = task.metadata.size_bytes
        self.files = task.metadata.input_files or ()
        self.key = hashlib.blake2b(repr((name, index, self.files)).encode(), digest_size=16).hexdigest()

    def read(self, task: TaskContext) -> Iterator[pa.Table]:
        task.ranges = self.ranges
        task.source = f"task {self.index} of {self.name}"
        for block in self.task():
            yield build.table(block, f"a ReadTask of {self.name}")


class DatasourceSource(Source):
    """A Datasource as a source."""

    def __init__(self, datasource: Datasource) -> None:
        self.datasource = datasource
        self.name = datasource.get_name()

    def estimate(self) -> Estimate:
        try:
            return Estimate(None, self.datasource.estimate_inmemory_data_size(), 0)
        except NotImplementedError:
            return Estimate(None, None, 0)

    def tasks(self, parallelism: int) -> Iterator[SourceTask]:
        node = None if self.datasource.supports_distributed_reads else given.this_node()
        for index, task in enumerate(self.datasource.get_read_tasks(parallelism if parallelism > 0 else 8)):
            yield DatasourceTask(task, index, self.name, node)


class FileBasedDatasource(Datasource):
    """Override ``_read_stream(file, path)``, which yields blocks, to read files of another format."""

    _FILE_EXTENSIONS: list[str] | None = None

    def __init__(
        self,
        paths: Any,
        *,
        filesystem: Any = None,
        schema: Any = None,
        open_stream_args: dict[str, Any] | None = None,
        partition_filter: Any = None,
        partitioning: Any = None,
        ignore_missing_paths: bool = False,
        shuffle: Any = None,
        include_paths: bool = False,
        file_extensions: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.arguments = {
            "paths": paths,
            "filesystem": filesystem,
            "arrow_open_stream_args": open_stream_args,
            "partition_filter": partition_filter,
            "partitioning": partitioning,
            "ignore_missing_paths": ignore_missing_paths,
            "shuffle": shuffle,
            "include_paths": include_paths,
            "file_extensions": file_extensions,
        }

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} has no _read_stream")

    def as_source(self) -> FileSource:
        """The source of the files."""
        return given.files(StreamFormat(self), self.arguments)


class StreamFormat(Format):
    """The format of a FileBasedDatasource."""

    def __init__(self, datasource: FileBasedDatasource) -> None:
        self.datasource = datasource
        self.name = datasource.get_name()

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        with named(file), file.stream() as stream:
            for block in self.datasource._read_stream(stream, file.path):
                yield build.table(block, f"_read_stream of {self.name}")
