"""Writes to Delta tables: tasks write parquet files, and the driver commits them as one version of the table."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hpc.data.block.nanoseconds import python_value
from hpc.data.io import paths
from hpc.data.io.datasink import WriteResult
from hpc.data.io.filesink import partitioned
from hpc.data.io.outputs import hive_folder, is_store
from hpc.data.io.table_sinks import TableDatasink, conformed, gathered
from hpc.data.options import SaveMode
from hpc.data.packages import needs

#: Longer texts are left out of the statistics of a file.
LONGEST = 32
Action = dict[str, Any]


class DeltaDatasink(TableDatasink):
    """A Delta table. It needs the package deltalake.

    ``schema_mode``: "merge" adds columns that the table has not, "error" refuses them. Raises ValueError for others.
    """

    def __init__(
        self,
        path: str,
        mode: SaveMode | str = SaveMode.APPEND,
        partition_by: list[str] | None = None,
        storage_options: dict[str, str] | None = None,
        schema_mode: str = "merge",
        filesystem: Any = None,
        name: str | None = None,
        description: str | None = None,
        ask: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__((SaveMode.APPEND, SaveMode.OVERWRITE), mode, ask)
        if schema_mode not in ("merge", "error"):
            raise ValueError(f"schema_mode is 'merge' or 'error', and not {schema_mode!r}")
        needs("deltalake", "write_delta", "deltalake")
        self.path = os.path.abspath(path) if "://" not in path else path
        self.partition_by = list(partition_by or ())
        self.options = storage_options
        self.schema_mode = schema_mode
        self.table_name, self.description = name, description
        self.filesystem = filesystem
        #: Columns of the table that is there; None: it is made, or replaced, with the columns of the data.
        self.schema: pa.Schema | None = None
        self.data_schema: pa.Schema | None = None
        self.write_mark = ""

    def place(self) -> tuple[str, pafs.FileSystem]:
        """The folder of the table, and its file system."""
        if self.filesystem is None and self.options and "://" in self.path and not self.path.startswith("file://"):
            handler = needs("deltalake.fs", "write_delta", "deltalake").DeltaStorageHandler
            return "", pafs.PyFileSystem(handler(self.path, self.options))
        (root,), system = paths.resolve(self.path, self.filesystem)
        return root, system or pafs.LocalFileSystem()

    def table(self) -> Any:
        """The table, or None."""
        deltalake = needs("deltalake", "write_delta", "deltalake")
        if not deltalake.DeltaTable.is_deltatable(self.path, self.options):
            return None
        return deltalake.DeltaTable(self.path, storage_options=self.options)

    # -------------------------------------------------------------- in the driver

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        table = self.table()
        self.data_schema = self.columns(schema)
        self.write_mark = uuid.uuid4().hex
        if table is None:
            return
        held = list(table.metadata().partition_columns)
        if self.mode is SaveMode.APPEND:
            if self.partition_by and self.partition_by != held:
                raise ValueError(f"{self.path} is partitioned by {held}, and not by {self.partition_by}")
            self.partition_by = held
            self.schema = arrow_schema(table)

    def on_write_complete(self, write_result: WriteResult[tuple[list[Action], list[pa.Schema]]]) -> None:
        transaction = needs("deltalake.transaction", "write_delta", "deltalake")
        found = [action for actions, _ in write_result.write_returns for action in actions]
        schemas = [schema for _, given in write_result.write_returns for schema in given]
        table = self.table()
        if not found and table is not None and self.mode is SaveMode.APPEND:
            return
        if not schemas and self.data_schema is not None:
            schemas = [storable(self.data_schema)]
        if not schemas:
            raise ValueError(f"a dataset without rows and columns makes no Delta table: {self.path}")
        schema = self.common(schemas)
        actions = [transaction.AddAction(**action) for action in found]
        self.committing = True
        deltalake = needs("deltalake", "write_delta", "deltalake")
        if table is None:
            transaction.create_table_with_add_actions(
                self.path, deltalake.Schema.from_arrow(schema), actions, "error", self.partition_by,
                name=self.table_name, description=self.description, storage_options=self.options,
            )  # fmt: skip
            return
        if self.mode is SaveMode.APPEND:
            held = arrow_schema(table)
            more = [field for field in schema if field.name not in held.names]
            if more:
                schema = pa.schema([*held, *(field.with_nullable(True) for field in more)])
                table.alter.add_columns(deltalake.Schema.from_arrow(pa.schema(more)).fields)
            else:
                schema = held
        mode = "overwrite" if self.mode is SaveMode.OVERWRITE else "append"
        table.create_write_transaction(actions, mode, deltalake.Schema.from_arrow(schema), self.partition_by)

    def common(self, schemas: list[pa.Schema]) -> pa.Schema:
        """The columns of all files. Raises ValueError for a column that files have with several types."""
        known: dict[str, pa.Field] = {}
        for schema in schemas:
            for field in schema:
                if field.name in known and not known[field.name].type.equals(field.type):
                    raise ValueError(
                        f"the column {field.name!r} is {known[field.name].type} in some blocks and {field.type} in "
                        f"others: cast it before it is written to {self.path}"
                    )
                known.setdefault(field.name, field)
        return pa.schema(list(known.values()))

    def on_write_failed(self, error: BaseException) -> None:
        if self.committing or not self.write_mark:
            return
        root, system = self.place()
        for info in system.get_file_info(pafs.FileSelector(root or "/", recursive=True, allow_not_found=True)):
            if self.write_mark in info.base_name:
                system.delete_file(info.path)

    # -------------------------------------------------------------- in tasks

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> tuple[list[Action], list[pa.Schema]]:
        root, system = self.place()
        actions: list[Action] = []
        schemas: list[pa.Schema] = []
        try:
            for table in gathered(blocks):
                table = self.shaped(table)
                schemas.append(table.schema)
                for values, folder, part in self.parts(table):
                    name = f"part-{ctx.task_idx:05}-{self.write_mark}-{uuid.uuid4().hex}.parquet"
                    path = f"{folder}/{name}" if folder else name
                    actions.append(written(system, root, path, part, values))
        except BaseException:
            for action in actions:
                system.delete_file(joined(root, action["path"]))
            raise
        return actions, schemas

    def shaped(self, table: pa.Table) -> pa.Table:
        """The rows as the table takes them."""
        target = storable(table.schema)
        if self.schema is not None:
            more = [field for field in target if field.name not in self.schema.names]
            if more and self.schema_mode == "error":
                raise ValueError(
                    f"{self.path} has no columns {[field.name for field in more]}: schema_mode='merge' adds them"
                )
            target = pa.schema([*self.schema, *more])
        elif self.data_schema is not None:
            known = storable(self.data_schema)
            target = pa.schema([*known, *(field for field in target if field.name not in known.names)])
        return conformed(table, target, self.path)

    def parts(self, table: pa.Table) -> Iterator[tuple[dict[str, str | None], str, pa.Table]]:
        """The rows of each partition, with its values as Delta's log has them and its folder."""
        if not self.partition_by:
            yield {}, "", table
            return
        names = tuple(self.partition_by)
        if missing := [name for name in names if name not in table.column_names]:
            raise ValueError(f"there are no columns {missing} to partition by; there are {table.column_names}")
        rows = table.append_column("__row", pa.array(range(table.num_rows), pa.int64()))
        for _, part in partitioned(rows, names):
            first = {name: python_value(table[name][part["__row"][0].as_py()]) for name in names}
            values = {name: None if value is None else text_of(value) for name, value in first.items()}
            yield values, hive_folder(names, tuple(values.values())), part.drop_columns(["__row"])


def joined(root: str, path: str) -> str:
    return f"{root}/{path}" if root else path


def written(system: pafs.FileSystem, root: str, path: str, table: pa.Table, values: dict[str, str | None]) -> Action:
    """Write a file that nobody sees before the commit. Returns what the log says of it."""
    whole = joined(root, path)
    if not is_store(system):
        system.create_dir(os.path.dirname(whole), recursive=True)
    metas: list[pq.FileMetaData] = []
    with system.open_output_stream(whole) as file:
        try:
            with pq.ParquetWriter(file, table.schema, metadata_collector=metas) as writer:
                writer.write_table(table)
            size = file.tell()
        except BaseException:
            file.close()
            system.delete_file(whole)
            raise
    return {
        "path": path,
        "size": size,
        "partition_values": values,
        "modification_time": int(time.time() * 1000),
        "data_change": True,
        "stats": json.dumps(statistics(table.schema, metas[0])),
    }


def statistics(schema: pa.Schema, meta: pq.FileMetaData) -> dict[str, Any]:
    """The rows, and of flat columns the nulls, least and greatest values, of a file."""
    nulls: dict[str, int] = {}
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    unknown: set[str] = set()
    for index in range(meta.num_row_groups):
        group = meta.row_group(index)
        for place in range(group.num_columns):
            column = group.column(place)
            name = column.path_in_schema
            if name not in schema.names:
                continue
            found = column.statistics
            if found is None or not found.has_null_count:
                unknown.add(name)
                continue
            nulls[name] = nulls.get(name, 0) + found.null_count
            if found.null_count == group.num_rows:
                continue
            if not found.has_min_max or not (simple(found.min) and simple(found.max)):
                unknown.add(name)
                continue
            least[name] = min(least.get(name, found.min), found.min)
            most[name] = max(most.get(name, found.max), found.max)
    return {
        "numRecords": meta.num_rows,
        "nullCount": {name: count for name, count in nulls.items() if name not in unknown},
        "minValues": {name: value for name, value in least.items() if name not in unknown},
        "maxValues": {name: value for name, value in most.items() if name not in unknown},
    }


def simple(value: Any) -> bool:
    """Whether JSON has the value, exactly."""
    if isinstance(value, str):
        return len(value) <= LONGEST
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def text_of(value: Any) -> str:
    """The value of a partition as Delta's log has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "hour") and hasattr(value, "year"):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    return str(value)


def arrow_schema(table: Any) -> pa.Schema:
    """The columns of a Delta table, of types that blocks have."""
    return pa.schema([field.with_type(plain(field.type)) for field in pa.schema(table.schema().to_arrow())])


def plain(kind: pa.DataType) -> pa.DataType:
    """A type without views, which Arrow cannot yet write everywhere."""
    if str(kind) == "string_view":
        return pa.string()
    if str(kind) == "binary_view":
        return pa.binary()
    return kind


def storable(schema: pa.Schema) -> pa.Schema:
    """The columns as Delta has them. Columns of nulls alone are left out: what a file has not is null."""
    return pa.schema([field.with_type(stored(field.type)) for field in schema if not pa.types.is_null(field.type)])


def stored(kind: pa.DataType) -> pa.DataType:
    """The type that Delta has for one of Arrow."""
    if pa.types.is_dictionary(kind):
        return stored(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_unsigned_integer(kind):
        return {8: pa.int16(), 16: pa.int32()}.get(kind.bit_width, pa.int64())
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_float16(kind):
        return pa.float32()
    return kind
