"""Targets of a user's own: Ray Data's ``Datasink`` and its kin for files, and how they become sinks of ours."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pyarrow as pa

from hpc.cloudpickle import dumps
from hpc.data.block import promote
from hpc.data.block.accessor import BlockAccessor
from hpc.data.block.nanoseconds import bring_pandas
from hpc.data.io.filesink import FileSink, save_mode
from hpc.data.io.sink import RESULT, Sink
from hpc.data.io.writers import Writer, Written
from hpc.data.options import SaveMode
from hpc.data.transform.base import TaskContext, Transform

WriteReturnType = TypeVar("WriteReturnType")


@dataclass
class WriteResult(Generic[WriteReturnType]):
    """What all tasks of a write have done: ``write_returns`` has what each call of ``write`` returned."""

    num_rows: int
    size_bytes: int
    write_returns: list[WriteReturnType]

    @classmethod
    def combine(cls, *results: WriteResult[WriteReturnType]) -> WriteResult[WriteReturnType]:
        """The sum of several."""
        returns = [one for result in results for one in result.write_returns]
        return cls(sum(one.num_rows for one in results), sum(one.size_bytes for one in results), returns)


@dataclass
class WriteContext:
    """What ``Datasink.write`` gets beside the blocks: the number of the task, and the id of the write."""

    task_idx: int
    op_name: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict)


class Datasink(Generic[WriteReturnType]):
    """Override ``write`` to write somewhere else. An object of it is pickled to the tasks."""

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        """Called in the driver before the first task. ``schema`` is that of the data where it is known."""

    def write(self, blocks: Iterable[Any], ctx: Any) -> WriteReturnType:
        """Write the blocks (tables) of one task. What it returns comes to ``on_write_complete``."""
        raise NotImplementedError(f"{type(self).__name__} has no write")

    def on_write_complete(self, write_result: WriteResult[WriteReturnType]) -> None:
        """Called in the driver when all tasks have ended well."""

    def on_write_failed(self, error: BaseException) -> None:
        """Called in the driver when the write has failed."""

    def get_name(self) -> str:
        """What the target is called in plans and progress."""
        return type(self).__name__.removeprefix("_").removesuffix("Datasink")

    @property
    def supports_distributed_writes(self) -> bool:
        """Whether tasks may run on nodes other than the driver's."""
        return True

    @property
    def min_rows_per_write(self) -> int | None:
        """The rows that come to each call of ``write`` at least, where there are enough."""
        return None

    @property
    def min_bytes_per_write(self) -> int | None:
        """The bytes that come to each call of ``write`` at least, where there are enough."""
        return None

    def as_sink(self) -> Sink:
        """The sink that runs this."""
        return DatasinkSink(self)


class DatasinkSink(Sink):
    """A Datasink as a sink."""

    def __init__(self, datasink: Datasink[Any]) -> None:
        self.datasink = datasink
        self.name = datasink.get_name()
        self.min_rows_per_write = datasink.min_rows_per_write
        self.min_bytes_per_write = datasink.min_bytes_per_write
        self.distributed = datasink.supports_distributed_writes

    def begin(self, schema: pa.Schema | None) -> bool:
        self.datasink.on_write_start(schema)
        return True

    def transform(self, write_id: str) -> Transform:
        return WriteBlocks(self.datasink, self.name, write_id)

    def complete(self, results: list[pa.Table]) -> None:
        rows = [row for table in results for row in table.to_pylist()]
        returns = [pickle.loads(row["returned"]) for row in rows if row["returned"] is not None]
        total = WriteResult(sum(row["rows"] for row in rows), sum(row["bytes"] for row in rows), returns)
        self.datasink.on_write_complete(total)

    def failed(self, error: BaseException) -> None:
        self.datasink.on_write_failed(error)


class WriteBlocks:
    """The last transform of a task that calls ``Datasink.write``."""

    keeps_rows = False

    def __init__(self, datasink: Datasink[Any], name: str, write_id: str) -> None:
        self.datasink = datasink
        self.name = f"Write{name}"
        self.write_id = write_id

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        rows = nbytes = 0

        def counted() -> Iterator[pa.Table]:
            nonlocal rows, nbytes
            for table in tables:
                rows += table.num_rows
                nbytes += table.nbytes
                bring_pandas(*table.schema.types)
                yield table

        blocks = counted()
        returned = self.datasink.write(blocks, WriteContext(task.index, task.op, {"write_uuid": self.write_id}))
        for _ in blocks:  # What it has not taken is computed all the same, as errors in it count.
            pass
        row = dict(zip(RESULT.names, (None, rows, nbytes, dumps(returned))))
        yield pa.Table.from_pylist([row], RESULT)


class _FileDatasink(Datasink[None]):
    """Common to targets that are folders of files."""

    def __init__(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        open_stream_args: dict[str, Any] | None = None,
        filename_provider: Any = None,
        dataset_uuid: str | None = None,
        file_format: str | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
    ) -> None:
        self.path = path
        self.filesystem = filesystem
        self.try_create_dir = try_create_dir
        self.open_stream_args = open_stream_args
        self.filename_provider = filename_provider
        self.dataset_uuid = dataset_uuid
        self.file_format = file_format
        self.mode = save_mode(mode)

    def writer(self) -> Writer:
        """How files are written."""
        raise NotImplementedError

    def as_sink(self) -> Sink:
        from hpc.data.io.filenames import FilenameProvider

        return HookedFileSink(
            self,
            self.path,
            self.writer(),
            filesystem=self.filesystem,
            try_create_dir=self.try_create_dir,
            open_stream_args=self.open_stream_args,
            filename_provider=self.filename_provider or FilenameProvider(self.dataset_uuid, self.file_format),
            mode=self.mode,
            min_rows_per_file=self.min_rows_per_write,
        )


class HookedFileSink(FileSink):
    """The sink of a file datasink: it calls what a class of a user has overridden."""

    def __init__(self, datasink: _FileDatasink, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.datasink = datasink
        self.name = datasink.get_name()

    def begin(self, schema: pa.Schema | None) -> bool:
        goes_on = super().begin(schema)
        if goes_on:
            self.datasink.on_write_start(schema)
        return goes_on

    def complete(self, results: list[pa.Table]) -> None:
        super().complete(results)
        rows = [row for table in results for row in table.to_pylist()]
        total: WriteResult[None] = WriteResult(
            sum(row["rows"] for row in rows), sum(row["bytes"] for row in rows), [None] * len(results)
        )
        self.datasink.on_write_complete(total)

    def failed(self, error: BaseException) -> None:
        super().failed(error)
        self.datasink.on_write_failed(error)


class BlockBasedFileDatasink(_FileDatasink):
    """Override ``write_block_to_file`` to write files of another format, each with the rows of one task."""

    def __init__(self, path: str, *, min_rows_per_file: int | None = None, **file_datasink_kwargs: Any) -> None:
        super().__init__(path, **file_datasink_kwargs)
        self._min_rows_per_file = min_rows_per_file

    def write_block_to_file(self, block: BlockAccessor, file: pa.NativeFile) -> None:
        """Write the rows of a block into a file."""
        raise NotImplementedError(f"{type(self).__name__} has no write_block_to_file")

    @property
    def min_rows_per_write(self) -> int | None:
        return self._min_rows_per_file

    def writer(self) -> Writer:
        return BlockWriter(self.write_block_to_file, self.get_name())


class RowBasedFileDatasink(_FileDatasink):
    """Override ``write_row_to_file`` to write a file for each row."""

    def write_row_to_file(self, row: dict[str, Any], file: pa.NativeFile) -> None:
        """Write one row into a file."""
        raise NotImplementedError(f"{type(self).__name__} has no write_row_to_file")

    def writer(self) -> Writer:
        return RowWriter(self.write_row_to_file, self.get_name())


class BlockWriter(Writer):
    """The format of a BlockBasedFileDatasink: it takes all rows of a file at once."""

    mixed = True

    def __init__(self, function: Callable[[BlockAccessor, Any], None], name: str) -> None:
        self.function = function
        self.name = name

    def begin(self, file: pa.NativeFile, schema: pa.Schema) -> Written:
        return _BlockFile(self.function, file)


class _BlockFile(Written):
    def __init__(self, function: Callable[[BlockAccessor, Any], None], file: pa.NativeFile) -> None:
        self.function = function
        self.file = file
        self.waiting: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        self.waiting.append(table)

    def close(self) -> None:
        self.function(BlockAccessor(promote.concat(self.waiting)), self.file)


class RowWriter(Writer):
    """The format of a RowBasedFileDatasink."""

    by_row = True

    def __init__(self, function: Callable[[dict[str, Any], Any], None], name: str) -> None:
        self.function = function
        self.name = name

    def write_row(self, row: dict[str, Any], file: pa.NativeFile) -> None:
        self.function(row, file)
