"""Writes to Iceberg tables: tasks write data files, and the driver commits them as one change of the table."""

from __future__ import annotations

import hashlib
import itertools
import os
import uuid
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

import hpc
from hpc.data.block import promote
from hpc.data.io.datasink import WriteResult
from hpc.data.io.iceberg import load, to_iceberg
from hpc.data.io.table_sinks import TableDatasink, conformed, gathered
from hpc.data.options import SaveMode
from hpc.data.packages import needs

MODES = (SaveMode.APPEND, SaveMode.OVERWRITE, SaveMode.UPSERT)
#: How often a commit is tried against commits of others.
TRIES = 5
ROW = "__row"


class IcebergDatasink(TableDatasink):
    """An Iceberg table that exists. It needs the package pyiceberg.

    Columns that the table has not are added to it before the data are written. An upsert replaces the rows of the
    table whose ``join_cols`` (in ``upsert_kwargs``; else the table's identifier fields) are in the data.
    """

    def __init__(
        self,
        table_identifier: str,
        catalog_kwargs: dict[str, Any] | None = None,
        snapshot_properties: dict[str, str] | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
        overwrite_filter: Any = None,
        upsert_kwargs: dict[str, Any] | None = None,
        overwrite_kwargs: dict[str, Any] | None = None,
        ask: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(MODES, mode, ask)
        for name, value, wanted in (
            ("upsert_kwargs", upsert_kwargs, SaveMode.UPSERT),
            ("overwrite_kwargs", overwrite_kwargs, SaveMode.OVERWRITE),
            ("overwrite_filter", overwrite_filter, SaveMode.OVERWRITE),
        ):
            if (bool(value) if isinstance(value, dict) else value is not None) and self.mode is not wanted:
                raise ValueError(f"{name} is for mode={wanted.value!r}, and the mode is {self.mode.value!r}")
        self.identifier, self.catalog = table_identifier, dict(catalog_kwargs or {})
        self.properties = dict(snapshot_properties or {})
        self.overwrite_filter = overwrite_filter
        self.upsert, self.overwrite = dict(upsert_kwargs or {}), dict(overwrite_kwargs or {})
        for more in set(self.overwrite) - {"case_sensitive", "branch"} | set(self.upsert) - {
            "case_sensitive", "branch", "join_cols",
        }:  # fmt: skip
            raise ValueError(f"write_iceberg knows no {more}= among overwrite_kwargs and upsert_kwargs")
        self.keys: list[str] = []
        self.metadata: Any = None
        self.io: Any = None
        self.mark = ""

    # -------------------------------------------------------------- in the driver

    def table(self) -> Any:
        return load(self.identifier, self.catalog, "write_iceberg")

    @property
    def branch(self) -> dict[str, str]:
        given = {**self.upsert, **self.overwrite}
        return {"branch": given["branch"]} if "branch" in given else {}

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        table = self.table()
        data = self.columns(schema)
        if data is not None:
            held = table.schema().column_names
            more = [field for field in data if field.name not in held and not pa.types.is_null(field.type)]
            if more:
                with table.update_schema() as update:
                    update.union_by_name(pa.schema([field.with_nullable(True) for field in more]))
        self.mark = hashlib.blake2b(uuid.uuid4().bytes, digest_size=8).hexdigest()
        self.metadata, self.io = table.metadata, table.io
        if self.mode is SaveMode.UPSERT:
            self.keys = self.key_columns(table.schema())
        if self.overwrite_filter is not None:
            self.where(table)

    def key_columns(self, schema: Any) -> list[str]:
        names = list(
            self.upsert.get("join_cols") or [schema.find_column_name(one) for one in schema.identifier_field_ids]
        )
        held = {one.lower() if not self.upsert.get("case_sensitive", True) else one: one for one in schema.column_names}
        found = [held.get(one.lower() if not self.upsert.get("case_sensitive", True) else one) for one in names]
        if not found or None in found:
            raise ValueError(
                f"an upsert needs join_cols in upsert_kwargs, columns of {self.identifier}: they are {names}, and the "
                f"table has {schema.column_names}"
            )
        return [one for one in found if one is not None]

    def where(self, table: Any) -> Any:
        """The rows that an overwrite replaces, for pyiceberg. Raises ValueError for what it cannot tell exactly."""
        expressions = needs("pyiceberg.expressions", "write_iceberg", "pyiceberg")
        if self.overwrite_filter is None:
            return expressions.AlwaysTrue()
        arrow = needs("pyiceberg.io.pyarrow", "write_iceberg", "pyiceberg")
        schema = arrow.schema_to_pyarrow(table.schema(), include_field_ids=False)
        found = to_iceberg(self.overwrite_filter, schema, exact=True)
        if found is None:
            raise ValueError(
                "overwrite_filter compares columns with values of their types (==, <, <=, >, >=, is_in, is_null), "
                f"joined by & and |, and not {self.overwrite_filter!r}"
            )
        return found

    def on_write_complete(self, write_result: WriteResult[tuple[list[Any], pa.Table | None]]) -> None:
        failed = needs("pyiceberg.exceptions", "write_iceberg", "pyiceberg").CommitFailedException
        files = [file for found, _ in write_result.write_returns for file in found]
        keys = [keys for _, keys in write_result.write_returns if keys is not None]
        if not files and self.mode is not SaveMode.OVERWRITE:
            return
        for left in reversed(range(TRIES)):
            table = self.table()
            change = self.changed(table, promote.concat(keys)) if self.mode is SaveMode.UPSERT else ([], [])
            self.committing = True
            try:
                self.commit(table, files, *change)
                return
            except failed:
                if not left:
                    raise

    def commit(self, table: Any, files: list[Any], replaced: list[Any], kept: list[Any]) -> None:
        with table.transaction() as change, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # To delete where there is nothing is as it should be.
            if self.mode is SaveMode.OVERWRITE:
                change.delete(self.where(table), self.properties, **self.overwrite)
            update = change.update_snapshot(self.properties, **self.branch)
            with update.overwrite() if replaced else update.fast_append() as snapshot:
                for file in replaced:
                    snapshot.delete_data_file(file)
                for file in (*kept, *files):
                    snapshot.append_data_file(file)

    def changed(self, table: Any, keys: pa.Table) -> tuple[list[Any], list[Any]]:
        """The data files that have rows of these keys, and files with their other rows. A task rewrites each."""
        if len(distinct(keys)) < len(keys):
            raise ValueError(f"several rows of the data have the same {self.keys}: an upsert takes one row for each")
        expressions = needs("pyiceberg.expressions", "write_iceberg", "pyiceberg")
        where = expressions.AlwaysTrue()
        for name in self.keys:
            bounds = pc.min_max(keys[name]).as_py() if ordered(keys[name].type) and not keys[name].null_count else None
            if bounds is not None:
                where = expressions.And(
                    where,
                    expressions.GreaterThanOrEqual(name, bounds["min"]),
                    expressions.LessThanOrEqual(name, bounds["max"]),
                )
        scan = table.scan(where)
        if "branch" in self.branch:
            scan = scan.use_ref(self.branch["branch"])
        plan = list(scan.plan_files())
        task = hpc.remote(rewritten)
        given = hpc.put(keys)
        made = hpc.get([task.remote(one, given, table.metadata, table.io, self.uuid()) for one in plan])
        found = [(one.file, files) for one, files in zip(plan, made) if files is not None]
        return [file for file, _ in found], [file for _, files in found for file in files]

    def on_write_failed(self, error: BaseException) -> None:
        """Remove the data files of this write, where the files of the table can be listed."""
        arrow = needs("pyiceberg.io.pyarrow", "write_iceberg", "pyiceberg")
        if self.committing or not self.mark or not isinstance(self.io, arrow.PyArrowFileIO):
            return
        scheme, netloc, path = self.io.parse_location(self.metadata.location)
        system = self.io.fs_by_scheme(scheme, netloc)
        for info in system.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True)):
            if self.mark in info.base_name.replace("-", ""):
                system.delete_file(info.path)

    def uuid(self) -> uuid.UUID:
        """What the names of an attempt's files have in them: the mark of the write comes first."""
        return uuid.UUID(bytes=bytes.fromhex(self.mark) + os.urandom(8))

    # -------------------------------------------------------------- in tasks

    def write(self, blocks: Iterable[pa.Table], ctx: Any) -> tuple[list[Any], pa.Table | None]:
        arrow = needs("pyiceberg.io.pyarrow", "write_iceberg", "pyiceberg")
        schema = arrow.schema_to_pyarrow(self.metadata.schema(), include_field_ids=False)
        files: list[Any] = []
        keys: list[pa.Table] = []
        numbers, mark = itertools.count(), self.uuid()
        try:
            for table in gathered(blocks):
                whole = conformed(table, schema, self.identifier)
                if self.keys:
                    keys.append(whole.select(self.keys))
                files.extend(arrow._dataframe_to_data_files(self.metadata, whole, self.io, mark, numbers))
        except BaseException:
            for file in files:
                self.io.delete(file.file_path)
            raise
        return files, promote.concat(keys) if keys else None


def rewritten(plan: Any, keys: pa.Table, metadata: Any, io: Any, mark: uuid.UUID) -> list[Any] | None:
    """The rows of a data file whose keys are none of these, as new files; None where all rows stay as they are."""
    arrow = needs("pyiceberg.io.pyarrow", "write_iceberg", "pyiceberg")
    expressions = needs("pyiceberg.expressions", "write_iceberg", "pyiceberg")
    schema = arrow.schema_to_pyarrow(metadata.schema(), include_field_ids=False)
    scan = arrow.ArrowScan(metadata, io, metadata.schema(), expressions.AlwaysTrue())
    kept: list[pa.Table] = []
    rows = 0
    for batch in scan.to_record_batches([plan]):
        table = pa.Table.from_batches([batch]).cast(schema)
        rows += len(table)
        numbered = table.select(keys.column_names).append_column(ROW, pa.array(range(len(table)), pa.int64()))
        others = numbered.join(keys, keys.column_names, join_type="left anti")
        kept.append(table.take(others[ROW].sort()))
    whole = pa.concat_tables(kept) if kept else schema.empty_table()
    if len(whole) == rows:
        return None
    return list(arrow._dataframe_to_data_files(metadata, whole, io, mark)) if len(whole) else []


def distinct(keys: pa.Table) -> pa.Table:
    return keys.group_by(keys.column_names).aggregate([])


def ordered(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
