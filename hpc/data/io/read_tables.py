"""The functions that read tables: parquet and its kin, databases, and sources of a user's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias

from hpc.data.io.datasource import Datasource
from hpc.data.io.given import Dataset, dataset, files
from hpc.data.io.partitioning import Partitioning, PartitionStyle, PathPartitionFilter
from hpc.data.io.source import Source
from hpc.data.io.stage import NodeStage
from hpc.data.options import FileShuffleConfig

Paths: TypeAlias = "str | os.PathLike[str] | list[str]"
Shuffle: TypeAlias = "str | FileShuffleConfig | None"
Stage: TypeAlias = "str | NodeStage | None"
HIVE = Partitioning(PartitionStyle.HIVE)
PARQUET = ["parquet"]
#: What else `read_parquet` takes: options of a pyarrow.parquet.ParquetFile.
FILE_OPTIONS = (
    "memory_map", "read_dictionary", "binary_type", "list_type", "coerce_int96_timestamp_unit", "decryption_properties",
    "thrift_string_size_limit", "thrift_container_size_limit", "page_checksum_verification", "arrow_extensions_enabled",
)  # fmt: skip


def read_parquet(
    paths: Paths,
    *,
    filesystem: Any = None,
    catalog: Any = None,
    columns: list[str] | None = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    tensor_column_schema: dict[str, tuple[Any, tuple[int, ...]]] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = HIVE,
    shuffle: Shuffle = None,
    include_paths: bool = False,
    include_row_hash: bool = False,
    file_extensions: list[str] | None = PARQUET,
    ignore_missing_paths: bool = False,
    skip_paths: str | list[str] | None = None,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    stage: Stage = None,
    **arrow_parquet_args: Any,
) -> Dataset:
    """The rows of parquet files. Row groups are read in parallel; memory does not grow with them.

    ``columns``: these alone, in this order. ``tensor_column_schema``: columns of bytes that are tensors, as
    {name: (dtype, shape)}. ``include_row_hash``: the column ``row_hash``, a number that depends on the file and the
    place of the row. ``skip_paths``: files that are left out. ``arrow_parquet_args``: batch_size (rows of a table), and
    options of `pyarrow.parquet.ParquetFile`. Filters are given as ``.filter(expr=...)``: they leave out row groups.
    """
    from hpc.data.io.parquet_file import ParquetFormat

    if catalog is not None:
        raise NotImplementedError("read_parquet knows no catalogs: give the paths of the files")
    for name in ("filter", "filters"):
        if name in arrow_parquet_args:
            raise ValueError(
                f"read_parquet takes no {name}=: use .filter(expr=...) of the dataset, which also leaves out row groups"
            )
    options = dict(arrow_parquet_args)
    batch_size = options.pop("batch_size", None)
    if unknown := [name for name in options if name not in FILE_OPTIONS]:
        raise TypeError(f"read_parquet knows no {unknown}: it takes batch_size and {list(FILE_OPTIONS)}")
    tensors = tuple((name, dtype, tuple(shape)) for name, (dtype, shape) in (tensor_column_schema or {}).items())
    form = ParquetFormat(tensors, include_row_hash, (), batch_size, tuple(options.items()))
    source = files(form, locals())
    if columns is None:
        return dataset(source, locals())
    narrow = source.with_columns(list(columns))
    assert narrow is not None
    return dataset(narrow, locals())


def read_datasource(
    datasource: Datasource,
    *,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: int | None = None,
    compute: Any = None,
    override_num_blocks: int | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    **read_args: Any,
) -> Dataset:
    """What the tasks of a Datasource read. ``read_args`` are for datasources of an older kind, and must be none."""
    if not isinstance(datasource, Datasource):
        raise TypeError(f"read_datasource takes a Datasource, and not {type(datasource).__name__}")
    if read_args:
        raise TypeError(f"a Datasource takes its arguments when it is made, and not here: {sorted(read_args)}")
    return dataset(datasource.as_source(), locals())


def read_sql(
    sql: str,
    connection_factory: Callable[[], Any],
    *,
    sql_params: Any = None,
    shard_keys: list[str] | None = None,
    shard_hash_fn: str = "MD5",
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args: dict[str, Any] | None = None,
) -> Dataset:
    """The rows of a query. ``connection_factory`` makes a connection of Python's DB-API in each task.

    ``shard_keys``: columns by whose hash several tasks share the rows, where the database has ``MOD``, ``ABS`` and
    ``shard_hash_fn``; else one task reads all.
    """
    from hpc.data.io.sql import SqlSource

    return dataset(SqlSource(sql, connection_factory, sql_params, shard_keys, shard_hash_fn), locals())


def read_lance(
    uri: str | list[str],
    *,
    version: Any = None,
    columns: list[str] | None = None,
    filter: str | None = None,
    storage_options: dict[str, Any] | None = None,
    scanner_options: dict[str, Any] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args: dict[str, Any] | None = None,
) -> Dataset:
    """The rows of a Lance dataset, by its fragments. ``filter``: an SQL expression. It needs the package pylance."""
    from hpc.data.io.outside_tables import LanceSource

    if not isinstance(uri, str):
        raise TypeError("read_lance takes the URI of one dataset")
    return dataset(LanceSource(uri, version, columns, filter, storage_options, scanner_options), locals())


def read_delta(
    path: str | list[str],
    version: Any = None,
    *,
    storage_options: dict[str, Any] | None = None,
    filesystem: Any = None,
    catalog: Any = None,
    columns: list[str] | None = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    shuffle: Shuffle = None,
    include_paths: bool = False,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    **arrow_parquet_args: Any,
) -> Dataset:
    """The rows of one version of a Delta table, as parquet files. It needs the package deltalake.

    Tables with deletion vectors or mapped columns are refused. ``arrow_parquet_args`` must be none.
    """
    from hpc.data.io.outside_tables import delta

    if catalog is not None:
        raise NotImplementedError("read_delta knows no catalogs: give the path of the table")
    if arrow_parquet_args or not isinstance(path, str):
        raise TypeError(f"read_delta takes the path of one table, and not {[path, *arrow_parquet_args]}")
    source: Source | None = delta(path, version, locals())
    if columns is not None and source is not None:
        source = source.with_columns(columns)
    assert source is not None
    return dataset(source, locals())


def read_iceberg(
    *,
    table_identifier: str,
    row_filter: Any = None,
    parallelism: int = -1,
    selected_fields: tuple[str, ...] = ("*",),
    snapshot_id: int | None = None,
    scan_kwargs: dict[str, Any] | None = None,
    catalog_kwargs: dict[str, Any] | None = None,
    catalog: Any = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    override_num_blocks: int | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args: dict[str, Any] | None = None,
) -> Dataset:
    """The rows of an Iceberg table, by its data files. It needs the package pyiceberg.

    ``row_filter``: an expression of pyiceberg, or its text. ``snapshot_id``: an older state of the table; else the one
    that is current now. ``scan_kwargs`` go to ``Table.scan``, ``catalog_kwargs`` to ``pyiceberg.catalog.load_catalog``.
    """
    from hpc.data.io.iceberg import IcebergSource, load

    if catalog is not None:
        raise NotImplementedError("read_iceberg knows no catalogs but those of pyiceberg: give catalog_kwargs")
    scan = dict(scan_kwargs or {})
    limit = scan.pop("limit", None)
    snapshot_id = scan.pop("snapshot_id", None) or snapshot_id
    fields = None if selected_fields is None or tuple(selected_fields) == ("*",) else tuple(selected_fields)
    table = load(table_identifier, catalog_kwargs, "read_iceberg")
    found = dataset(IcebergSource(table, row_filter, fields, snapshot_id, scan), locals())
    return found if limit is None else found.limit(limit)
