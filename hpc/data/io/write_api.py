"""The functions that write a dataset: the bodies of ``Dataset.write_*``, with the arguments and defaults of Ray Data.

Files become visible when the task that writes them has ended well, under names that do not depend on its attempts.
``mode`` (a SaveMode, or its name) says what happens where the path exists. With ``resume=True`` a write that was broken
off goes on when the same program runs again, and writes each row once. The driver may have died, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pyarrow as pa

from hpc.data.io import writers
from hpc.data.io.datasink import Datasink
from hpc.data.io.filenames import FilenameProvider
from hpc.data.io.filesink import FileSink
from hpc.data.io.owner import Ownership
from hpc.data.io.resume import resumed
from hpc.data.options import SaveMode

Options: TypeAlias = "Callable[[], dict[str, Any]] | None"


def write_parquet(
    dataset: Any,
    path: str,
    *,
    partition_cols: list[str] | None = None,
    filesystem: Any = None,
    catalog: Any = None,
    try_create_dir: bool = True,
    arrow_open_stream_args: dict[str, Any] | None = None,
    filename_provider: FilenameProvider | None = None,
    arrow_parquet_args_fn: Options = None,
    min_rows_per_file: int | None = None,
    max_rows_per_file: int | None = None,
    min_bytes_per_file: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
    num_rows_per_file: int | None = None,
    mode: SaveMode | str = SaveMode.APPEND,
    resume: bool = False,
    **arrow_parquet_args: Any,
) -> None:
    """Parquet files, one or more for each task. ``partition_cols``: hive folders of these columns.

    ``arrow_parquet_args`` go to `pyarrow.parquet.ParquetWriter`, and row_group_size is the rows of a row group.
    """
    if catalog is not None:
        raise NotImplementedError("write_parquet knows no catalogs: give the path of the folder")
    writer = writers.ParquetWriter(arrow_parquet_args, arrow_parquet_args_fn)
    sink = files(writer, locals(), max_rows_per_file=max_rows_per_file, partition_cols=partition_cols)
    sink.min_bytes_per_write = min_bytes_per_file
    run(dataset, sink, locals())


def write_csv(
    dataset: Any,
    path: str,
    *,
    filesystem: Any = None,
    try_create_dir: bool = True,
    arrow_open_stream_args: dict[str, Any] | None = None,
    filename_provider: FilenameProvider | None = None,
    arrow_csv_args_fn: Options = None,
    min_rows_per_file: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
    num_rows_per_file: int | None = None,
    mode: SaveMode | str = SaveMode.APPEND,
    resume: bool = False,
    **arrow_csv_args: Any,
) -> None:
    """CSV files, one for each task. ``arrow_csv_args``: write_options of `pyarrow.csv.CSVWriter`."""
    run(dataset, files(writers.CsvWriter(arrow_csv_args, arrow_csv_args_fn), locals()), locals())


def write_json(
    dataset: Any,
    path: str,
    *,
    filesystem: Any = None,
    try_create_dir: bool = True,
    arrow_open_stream_args: dict[str, Any] | None = None,
    filename_provider: FilenameProvider | None = None,
    pandas_json_args_fn: Options = None,
    min_rows_per_file: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
    num_rows_per_file: int | None = None,
    mode: SaveMode | str = SaveMode.APPEND,
    resume: bool = False,
    **pandas_json_args: Any,
) -> None:
    """JSON files with an object on each line, one for each task. ``pandas_json_args`` go to
    `pandas.DataFrame.to_json`."""
    run(dataset, files(writers.JsonWriter(pandas_json_args, pandas_json_args_fn), locals()), locals())


def write_orc(
    dataset: Any,
    path: str,
    *,
    filesystem: Any = None,
    try_create_dir: bool = True,
    arrow_open_stream_args: dict[str, Any] | None = None,
    filename_provider: FilenameProvider | None = None,
    arrow_orc_args_fn: Options = None,
    min_rows_per_file: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
    mode: SaveMode | str = SaveMode.APPEND,
    resume: bool = False,
    **arrow_orc_args: Any,
) -> None:
    """ORC files, one for each task. ``arrow_orc_args`` go to `pyarrow.orc.ORCWriter`."""
    run(dataset, files(writers.OrcWriter(arrow_orc_args, arrow_orc_args_fn), locals()), locals())


def write_numpy(
    dataset: Any,
    path: str,
    *,
    column: str,
    filesystem: Any = None,
    try_create_dir: bool = True,
    arrow_open_stream_args: dict[str, Any] | None = None,
    filename_provider: FilenameProvider | None = None,
    min_rows_per_file: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
    num_rows_per_file: int | None = None,
    mode: SaveMode | str = SaveMode.APPEND,
    resume: bool = False,
) -> None:
    """The values of one column as .npy files, one for each task."""
    run(dataset, files(writers.NumpyWriter(column), locals()), locals())


def write_images(
    dataset: Any,
    path: str,
    column: str,
    file_format: str = "png",
    *,
    filesystem: Any = None,
    try_create_dir: bool = True,
    arrow_open_stream_args: dict[str, Any] | None = None,
    filename_provider: FilenameProvider | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
    mode: SaveMode | str = SaveMode.APPEND,
    resume: bool = False,
) -> None:
    """An image file for each row, of the array in one column."""
    run(dataset, files(writers.ImageWriter(column, file_format), locals()), locals())


def write_tfrecords(
    dataset: Any,
    path: str,
    *,
    tf_schema: Any = None,
    filesystem: Any = None,
    try_create_dir: bool = True,
    arrow_open_stream_args: dict[str, Any] | None = None,
    filename_provider: FilenameProvider | None = None,
    min_rows_per_file: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
    num_rows_per_file: int | None = None,
    mode: SaveMode | str = SaveMode.APPEND,
    resume: bool = False,
) -> None:
    """TensorFlow's record files of ``tf.train.Example``, one for each task. ``tf_schema``: kinds of the features."""
    from hpc.data.io.tfrecords import TFRecordWriter, features_of

    run(dataset, files(TFRecordWriter(features_of(tf_schema)), locals()), locals())


def write_webdataset(
    dataset: Any,
    path: str,
    *,
    filesystem: Any = None,
    try_create_dir: bool = True,
    arrow_open_stream_args: dict[str, Any] | None = None,
    filename_provider: FilenameProvider | None = None,
    min_rows_per_file: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    encoder: Any = True,
    concurrency: int | None = None,
    num_rows_per_file: int | None = None,
    mode: SaveMode | str = SaveMode.APPEND,
    resume: bool = False,
) -> None:
    """Tar archives of samples, one for each task: a member for each column, named by ``__key__`` and the column.

    ``encoder``: True encodes by what names of columns end with; or a function of a row.
    """
    run(dataset, files(writers.WebDatasetWriter(encoder), locals()), locals())


def write_sql(
    dataset: Any,
    sql: str,
    connection_factory: Callable[[], Any],
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
) -> None:
    """An INSERT for each row: ``sql`` has a place for each column. Each task is a transaction of its own."""
    from hpc.data.io.sql import SqlSink

    run(dataset, SqlSink(sql, connection_factory), locals())


def write_datasink(
    dataset: Any, datasink: Any, *, ray_remote_args: dict[str, Any] | None = None, concurrency: int | None = None
) -> None:
    """Whatever the ``write`` of a Datasink does with the blocks of each task."""
    if not isinstance(datasink, Datasink):
        raise TypeError(f"write_datasink takes a Datasink, and not {type(datasink).__name__}")
    run(dataset, datasink.as_sink(), locals())


def write_lance(
    dataset: Any,
    path: str,
    *,
    schema: pa.Schema | None = None,
    mode: SaveMode | str = SaveMode.CREATE,
    min_rows_per_file: int = 1024 * 1024,
    max_rows_per_file: int = 64 * 1024 * 1024,
    data_storage_version: str | None = None,
    storage_options: dict[str, Any] | None = None,
    table_id: list[str] | None = None,
    namespace_impl: str | None = None,
    namespace_properties: dict[str, str] | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
) -> None:
    """A version of a Lance dataset, by one commit at the end. It needs the package pylance.

    ``mode``: create (a ValueError if it exists), append, overwrite. ``schema``: the columns and their types; else those
    of the dataset that is there, or of the first blocks.
    """
    from hpc.data.io.lance_sink import LanceDatasink

    if table_id is not None or namespace_impl is not None or namespace_properties is not None:
        raise NotImplementedError("write_lance knows no namespaces: give the path of the dataset")
    sink = LanceDatasink(
        path, schema, mode, min_rows_per_file, max_rows_per_file, data_storage_version, storage_options, dataset.schema
    )
    run(dataset, sink.as_sink(), locals())


def write_delta(
    dataset: Any,
    path: str,
    *,
    catalog: Any = None,
    mode: SaveMode | str = SaveMode.APPEND,
    partition_by: list[str] | None = None,
    storage_options: dict[str, str] | None = None,
    schema_mode: str = "merge",
    filesystem: Any = None,
    name: str | None = None,
    description: str | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
) -> None:
    """A version of a Delta table, by one commit at the end. The table is made if it is missing.

    ``mode``: append or overwrite. ``schema_mode``: "merge" adds columns that the table has not, "error" refuses them.
    It needs the package deltalake.
    """
    from hpc.data.io.delta_sink import DeltaDatasink

    if catalog is not None:
        raise NotImplementedError("write_delta knows no catalogs: give the path of the table")
    sink = DeltaDatasink(
        path, mode, partition_by, storage_options, schema_mode, filesystem, name, description, dataset.schema
    )
    run(dataset, sink.as_sink(), locals())


def write_iceberg(
    dataset: Any,
    table_identifier: str,
    catalog_kwargs: dict[str, Any] | None = None,
    catalog: Any = None,
    snapshot_properties: dict[str, str] | None = None,
    mode: SaveMode | str = SaveMode.APPEND,
    overwrite_filter: Any = None,
    upsert_kwargs: dict[str, Any] | None = None,
    overwrite_kwargs: dict[str, Any] | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    concurrency: int | None = None,
) -> None:
    """A change of an Iceberg table that exists, by one commit at the end. It needs the package pyiceberg.

    ``mode``: append; overwrite (all rows, or those of ``overwrite_filter``); upsert (rows with the ``join_cols`` of
    ``upsert_kwargs``). Columns that the table has not are added to it.
    """
    from hpc.data.io.iceberg_sink import IcebergDatasink

    if catalog is not None:
        raise NotImplementedError("write_iceberg knows no catalogs but those of pyiceberg: give catalog_kwargs")
    sink = IcebergDatasink(
        table_identifier, catalog_kwargs, snapshot_properties, mode, overwrite_filter, upsert_kwargs, overwrite_kwargs,
        dataset.schema,
    )  # fmt: skip
    run(dataset, sink.as_sink(), locals())


def files(writer: writers.Writer, given: Mapping[str, Any], **more: Any) -> FileSink:
    """The sink of the arguments of a ``write_*`` function."""
    least = given.get("min_rows_per_file")
    if given.get("num_rows_per_file") is not None:
        if least is not None:
            raise ValueError("num_rows_per_file is the old name of min_rows_per_file: give one of them")
        warnings.warn("num_rows_per_file is deprecated: use min_rows_per_file", DeprecationWarning, stacklevel=4)
        least = given["num_rows_per_file"]
    return FileSink(
        given["path"],
        writer,
        filesystem=given["filesystem"],
        try_create_dir=given["try_create_dir"],
        open_stream_args=given["arrow_open_stream_args"],
        filename_provider=given["filename_provider"],
        mode=given["mode"],
        min_rows_per_file=least,
        resume=given.get("resume", False),
        **more,
    )


def run(dataset: Any, sink: Any, given: Mapping[str, Any]) -> None:
    """Write, and wait until all is written."""
    if isinstance(sink, FileSink) and sink.ledger is not None:
        sink.begin(None)
        with Ownership(sink.ledger):
            _write(resumed(dataset, sink), sink, given)
    else:
        _write(dataset, sink, given)


def _write(dataset: Any, sink: Any, given: Mapping[str, Any]) -> None:
    dataset.write_to(sink, concurrency=given["concurrency"], ray_remote_args=given["ray_remote_args"])
