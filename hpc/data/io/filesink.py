"""Writes to files: each task writes files of its own, which become visible when the task has ended well."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import batch, codes, promote
from hpc.data.block.nanoseconds import python_values
from hpc.data.block.views import rows_of, taken_of
from hpc.data.io import paths, retrying
from hpc.data.io.filenames import FilenameProvider, split_extension
from hpc.data.io.ledger import Ledger
from hpc.data.io.outputs import PART, Output, OutputFolder, hive_folder
from hpc.data.io.sink import RESULT, Sink
from hpc.data.io.writers import Writer, Written
from hpc.data.options import SaveMode
from hpc.data.transform.base import TaskContext, Transform

#: With more partitions than this, files are closed, and later rows of their partitions go to further files.
OPEN = 100
#: Tables of a task are gathered to so many bytes before its file begins: they are brought to one schema.
GATHERED = 32 << 20


class FileSink(Sink):
    """A folder of files of one format.

    ``resume``: a write that was broken off goes on where it was, and repeats nothing (see `ledger.py`).
    """

    def __init__(
        self,
        path: Any,
        writer: Writer,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        open_stream_args: dict[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        min_rows_per_file: int | None = None,
        max_rows_per_file: int | None = None,
        partition_cols: list[str] | None = None,
        resume: bool = False,
    ) -> None:
        self.mode = save_mode(mode)
        check_rows(min_rows_per_file, max_rows_per_file)
        (found,), system = paths.resolve(path, filesystem)
        self.name = writer.name
        self.folder = OutputFolder(found, system, open_stream_args or {})
        self.writer = writer
        self.names = filename_provider or FilenameProvider(file_format=writer.extension)
        self.try_create_dir = try_create_dir
        self.min_rows_per_write = min_rows_per_file
        self.max_rows = max_rows_per_file
        self.partition_cols = tuple(partition_cols or ())
        self.distributed = not paths.is_local_scheme(path)
        self.ledger = Ledger(self.folder) if resume else None
        if resume and (self.mode is not SaveMode.APPEND or min_rows_per_file is not None):
            raise ValueError(
                "a write that resumes appends, and has no min_rows_per_file: each task writes what it read"
            )
        if resume and filename_provider is not None:
            raise ValueError("a write that resumes names its files itself: filename_provider must be None")
        self.write_id = ""
        self.created = False
        #: What an overwrite replaces, removed when all is written.
        self.old: list[str] = []
        #: Whether all tasks have ended well: from then on the new files are those that stay.
        self.whole = False

    def begin(self, schema: pa.Schema | None) -> bool:
        if self.folder.exists():
            if self.mode in (SaveMode.ERROR, SaveMode.CREATE):
                raise ValueError(f"{self.folder.path} exists. mode='append' adds to it, 'overwrite' replaces it")
            if self.mode is SaveMode.IGNORE:
                return False
            if self.mode is SaveMode.OVERWRITE:
                # Unfinished files are those of other writes, which may still run.
                self.old = [path for path in self.folder.files() if not base_name(path).startswith(PART)]
        elif self.try_create_dir:
            self.folder.make()
            self.created = True
        return True

    def transform(self, write_id: str) -> Transform:
        # The ledger of a later run knows by its id which unfinished files are left of this one.
        self.write_id = write_id if self.ledger is None else f"{self.ledger.id}-{write_id}"
        return WriteFiles(self, self.write_id)

    def complete(self, results: list[pa.Table]) -> None:
        self.whole = True
        written = {path for table in results for path in table["path"].to_pylist() if path}
        for path in self.old:
            if path not in written:
                self.folder.remove(path)
        self.folder.sweep(self.write_id)
        if self.ledger is not None:
            self.ledger.compact()
        if self.created and not written:
            self.folder.remove_if_empty()

    def failed(self, error: BaseException) -> None:
        """Remove unfinished files, and of an overwrite all that it wrote: what it would replace stays.

        Otherwise files of tasks that had ended stay.
        """
        if self.write_id:
            self.folder.sweep(self.write_id)
            if self.mode is SaveMode.OVERWRITE and not self.whole:
                self.remove_written()
        if self.created:
            self.folder.remove_if_empty()

    def remove_written(self) -> None:
        old = set(self.old)
        for path in self.folder.files():
            if self.write_id in base_name(path) and path not in old:
                self.folder.remove(path)


def base_name(path: str) -> str:
    return path.rpartition("/")[2]


def save_mode(mode: SaveMode | str) -> SaveMode:
    """The mode by its name. Raises ValueError for one that files do not have."""
    try:
        found = SaveMode(mode)
    except ValueError:
        found = None
    if found is None or found is SaveMode.UPSERT:
        modes = [one.value for one in SaveMode if one is not SaveMode.UPSERT]
        raise ValueError(f"the mode of a write to files is one of {modes}, and not {mode!r}")
    return found


def check_rows(least: int | None, most: int | None) -> None:
    for name, rows in (("min_rows_per_file", least), ("max_rows_per_file", most)):
        if rows is not None and (not isinstance(rows, int) or rows <= 0):
            raise ValueError(f"{name} is a number above 0, and not {rows!r}")
    if least is not None and most is not None and least > most:
        raise ValueError(f"min_rows_per_file ({least}) cannot be greater than max_rows_per_file ({most})")


class WriteFiles:
    """The last transform of a task: its tables go to files, and a row for each file comes out."""

    keeps_rows = False

    def __init__(self, sink: FileSink, write_id: str) -> None:
        self.folder, self.writer, self.names = sink.folder, sink.writer, sink.names
        self.max_rows, self.partition_cols = sink.max_rows, sink.partition_cols
        self.ledger = sink.ledger
        self.name = f"Write{sink.name}"
        self.write_id = write_id

    def __call__(self, tables: Iterator[pa.Table], task: TaskContext) -> Iterator[pa.Table]:
        files = TaskFiles(self, task)
        try:
            for table in tables:
                if table.num_rows:
                    files.add(table)
            done = files.commit()
        except BaseException:
            files.abandon()
            raise
        if self.ledger is not None:
            self.ledger.record(task, [output.path for output in done])
        rows: list[tuple[Any, ...]] = [(output.path, output.rows, output.size, None) for output in done]
        rows = rows or [(None, 0, 0, None)]
        yield pa.Table.from_pylist([dict(zip(RESULT.names, row)) for row in rows], RESULT)


class OpenFiles:
    """The file of one partition that takes rows now."""

    def __init__(self, output: Output, written: Written, schema: pa.Schema) -> None:
        self.output, self.written, self.schema = output, written, schema


class TaskFiles:
    """The files of one task. None is visible before all are whole."""

    def __init__(self, write: WriteFiles, task: TaskContext) -> None:
        self.write = write
        self.task = task
        #: Of each partition the file that is open, oldest first, and how many files there were.
        self.open: dict[str, OpenFiles] = {}
        self.counts: dict[str, int] = {}
        self.done: list[Output] = []
        self.rows = 0
        self.waiting: list[pa.Table] = []
        self.size = 0

    @cached_property
    def stem(self) -> tuple[str, str]:
        """What the names of this task's files begin and end with."""
        write = self.write
        if write.ledger is not None:
            return write.ledger.name_of(self.task), f".{write.writer.extension}" if write.writer.extension else ""
        return split_extension(write.names.get_filename_for_task(write.write_id, self.task.index))

    def begin(self, mark: str, folder: str = "") -> Output:
        base, extension = self.stem
        name = f"{folder}{base}{mark}{extension}"
        output = retrying.called(lambda: self.write.folder.begin(name, self.write.write_id), self.task.context)
        self.done.append(output)
        return output

    def add(self, table: pa.Table) -> None:
        if self.write.writer.by_row:
            for row in batch.rows(table):
                self.add_row(row)
            return
        if self.open or self.done:
            self.put(table)
            return
        self.waiting.append(table)
        self.size += table.nbytes
        if self.size >= GATHERED:
            self.flush()

    def flush(self) -> None:
        """Begin files with what was gathered, of one schema."""
        if self.waiting:
            table, self.waiting = promote.concat(self.waiting), []
            self.put(table)

    def add_row(self, row: dict[str, Any]) -> None:
        output = self.begin(f"_{0:06}_{self.rows:06}")
        self.write.writer.write_row(row, output.file)
        output.rows = 1
        output.close()
        self.rows += 1

    def put(self, table: pa.Table) -> None:
        if not self.write.partition_cols:
            self.put_in("", table)
            return
        for folder, part in partitioned(table, self.write.partition_cols):
            self.put_in(folder, part)

    def put_in(self, folder: str, table: pa.Table) -> None:
        most = self.write.max_rows
        while table.num_rows:
            file = self.file_for(folder, table.schema)
            if table.schema != file.schema and not self.write.writer.mixed:
                table = promote.to_schema(table, file.schema)
            step = table.num_rows if most is None else min(table.num_rows, most - file.output.rows)
            file.written.write(table.slice(0, step))
            file.output.rows += step
            table = table.slice(step)
            if most is not None and file.output.rows >= most:
                self.finish(folder)

    def file_for(self, folder: str, schema: pa.Schema) -> OpenFiles:
        """The open file of a partition that takes this schema, or a new one."""
        file = self.open.get(folder)
        if file is not None and (self.write.writer.mixed or fits(schema, file.schema)):
            return file
        if file is not None:
            self.finish(folder)
        while len(self.open) >= OPEN:
            self.finish(next(iter(self.open)))
        index = self.counts.get(folder, 0)
        self.counts[folder] = index + 1
        numbered = index or self.write.writer.extension == "parquet"
        output = self.begin(f"-{index}" if numbered else "", f"{folder}/" if folder else "")
        self.open[folder] = OpenFiles(output, self.write.writer.begin(output.file, schema), schema)
        return self.open[folder]

    def finish(self, folder: str) -> None:
        file = self.open.pop(folder)
        file.written.close()
        file.output.close()

    def commit(self) -> list[Output]:
        """Close all files and give them their names."""
        self.flush()
        for folder in list(self.open):
            self.finish(folder)
        for output in self.done:
            output.close()
            retrying.called(output.commit, self.task.context)
        return self.done

    def abandon(self) -> None:
        for output in self.done:
            output.abandon()


def fits(schema: pa.Schema, into: pa.Schema) -> bool:
    """Whether tables of a schema can be written into a file of another one."""
    if schema.equals(into):
        return True
    try:
        return promote.unify([into, schema]).equals(into)
    except TypeError:
        return False


def partitioned(table: pa.Table, names: tuple[str, ...]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each partition with its folders; the columns of the partition are left out. Order is kept."""
    if missing := [name for name in names if name not in table.column_names]:
        raise KeyError(f"there are no columns {missing} to partition by; there are {table.column_names}")
    rest = table.drop_columns(list(names))
    if not rest.num_columns:
        raise ValueError("a write needs a column that is none of partition_cols")
    ids, count = codes.codes_of_rows([table[name] for name in names])
    first = pa.array(codes.first_rows(ids, count))
    values = zip(*(python_values(taken_of(table[name], first)) for name in names))
    folders = [hive_folder(names, some) for some in values]
    if count > 1:
        rest = rows_of(rest, pa.array(codes.stable_order(ids, count)))
    start = 0
    for folder, rows in zip(folders, np.bincount(ids, minlength=count).tolist()):
        yield folder, rest.slice(start, rows)
        start += rows
