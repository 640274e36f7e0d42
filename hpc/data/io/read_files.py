"""The functions that read files of rows, texts, images and arrays, with the arguments and defaults of Ray Data.

With ``stage="node"`` (or a NodeStage) each file is copied once to each node that reads it, and read from there.
"""

from __future__ import annotations

import os
from typing import Any, TypeAlias

from hpc.data.io.given import IMAGES, JSONS, Dataset, dataset, files
from hpc.data.io.partitioning import Partitioning, PartitionStyle, PathPartitionFilter
from hpc.data.io.stage import NodeStage
from hpc.data.options import FileShuffleConfig

Paths: TypeAlias = "str | os.PathLike[str] | list[str]"
Shuffle: TypeAlias = "str | FileShuffleConfig | None"
Stage: TypeAlias = "str | NodeStage | None"
HIVE = Partitioning(PartitionStyle.HIVE)
NUMPY = ["npy"]
ORC = ["orc"]


def read_csv(
    paths: Paths,
    *,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = HIVE,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Shuffle = None,
    file_extensions: list[str] | None = None,
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
    **arrow_csv_args: Any,
) -> Dataset:
    """The rows of CSV files. Memory does not grow with a file, and hive partitions become columns.

    Types are those of the first rows of each file. ``arrow_csv_args`` go to `pyarrow.csv.open_csv`: read_options,
    parse_options and convert_options.
    """
    from hpc.data.io.csv_files import CsvFormat

    return dataset(files(CsvFormat(tuple(arrow_csv_args.items())), locals()), locals())


def read_json(
    paths: Paths,
    *,
    lines: bool = False,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = HIVE,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Shuffle = None,
    file_extensions: list[str] | None = JSONS,
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
    **arrow_json_args: Any,
) -> Dataset:
    """The rows of JSON files: an object on each line, or an array of objects in a file.

    ``lines``: files have an object on each line, whatever their names. Such files are read in parallel pieces, with
    memory that does not grow with them. ``arrow_json_args``: parse_options of `pyarrow.json`.
    """
    from hpc.data.io.json_files import JsonFormat

    return dataset(files(JsonFormat(lines, tuple(arrow_json_args.items())), locals()), locals())


def read_text(
    paths: Paths,
    *,
    encoding: str = "utf-8",
    drop_empty_lines: bool = True,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Shuffle = None,
    file_extensions: list[str] | None = None,
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
) -> Dataset:
    """The lines of text files, in the column ``text``. Lines of blanks alone are left out, unless ``drop_empty_lines``
    is false."""
    from hpc.data.io.text_files import TextFormat

    return dataset(files(TextFormat(encoding, drop_empty_lines), locals()), locals())


def read_binary_files(
    paths: Paths,
    *,
    include_paths: bool = False,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    ignore_missing_paths: bool = False,
    shuffle: Shuffle = None,
    file_extensions: list[str] | None = None,
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
) -> Dataset:
    """A row for each file, with its bytes in the column ``bytes``."""
    from hpc.data.io.binary_files import BinaryFormat

    return dataset(files(BinaryFormat(), locals()), locals())


def read_images(
    paths: Paths,
    *,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_file_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Shuffle = None,
    file_extensions: list[str] | None = IMAGES,
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
) -> Dataset:
    """A row for each image, with an array in the column ``image``: height x width (x channels).

    ``size``: (height, width) that all are brought to. ``mode``: one of Pillow, such as "RGB". JPEG files that become
    smaller are decoded at a reduced size.
    """
    from hpc.data.io.binary_files import ImageFormat

    return dataset(files(ImageFormat(None if size is None else tuple(size), mode), locals()), locals())  # type: ignore[arg-type]


def read_numpy(
    paths: Paths,
    *,
    filesystem: Any = None,
    parallelism: int = -1,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Shuffle = None,
    file_extensions: list[str] | None = NUMPY,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    allow_pickle: bool = False,
    stage: Stage = None,
    **numpy_load_args: Any,
) -> Dataset:
    """The rows of numpy arrays in .npy files, in the column ``data``: the steps along the first axis."""
    from hpc.data.io.binary_files import NumpyFormat

    return dataset(files(NumpyFormat(allow_pickle, tuple(numpy_load_args.items())), locals()), locals())


def read_avro(
    paths: Paths,
    *,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Shuffle = None,
    file_extensions: list[str] | None = None,
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
) -> Dataset:
    """The records of Avro files."""
    from hpc.data.io.records import AvroFormat

    return dataset(files(AvroFormat(), locals()), locals())


def read_orc(
    paths: Paths,
    *,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: Shuffle = None,
    file_extensions: list[str] | None = ORC,
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
) -> Dataset:
    """The rows of ORC files, a stripe at a time."""
    from hpc.data.io.records import OrcFormat

    return dataset(files(OrcFormat(), locals()), locals())
