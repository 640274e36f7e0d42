"""The functions that read archives of samples, record files and arrays of science."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

from hpc.data.io.given import Dataset, dataset, files
from hpc.data.io.partitioning import Partitioning, PathPartitionFilter
from hpc.data.io.stage import NodeStage
from hpc.data.options import FileShuffleConfig

Paths: TypeAlias = "str | os.PathLike[str] | list[str]"
Shuffle: TypeAlias = "str | FileShuffleConfig | None"
Stage: TypeAlias = "str | NodeStage | None"


def read_webdataset(
    paths: Paths,
    *,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    decoder: Any = True,
    fileselect: Any = None,
    filerename: Any = None,
    suffixes: Any = None,
    verbose_open: bool = False,
    shuffle: Shuffle = None,
    include_paths: bool = False,
    file_extensions: list[str] | None = None,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    expand_json: bool = False,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    stage: Stage = None,
) -> Dataset:
    """The samples of tar archives: members that share a name up to the first dot are the columns of a row.

    ``decoder``: True decodes by what names end with, None leaves bytes; or a function of a sample. ``fileselect`` and
    ``suffixes`` keep members, by patterns or functions. ``expand_json``: keys of ``json`` become columns. The columns
    ``__key__`` and ``__url__`` say where a row is from.
    """
    from hpc.data.io.webdataset import WebDatasetFormat

    if verbose_open:
        raise ValueError("read_webdataset has no verbose_open: progress and stats() tell which files are read")
    form = WebDatasetFormat(decoder, fileselect, filerename, suffixes, expand_json)
    return dataset(files(form, locals()), locals())


def read_tfrecords(
    paths: Paths,
    *,
    filesystem: Any = None,
    parallelism: int = -1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    tf_schema: Any = None,
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
    """The records ``tf.train.Example`` of TensorFlow's record files; neither TensorFlow nor protobuf is needed.

    A feature with one value in each record is a column of values, any other one of lists. ``tf_schema``: a schema of
    TensorFlow Metadata; all features are lists then.
    """
    from hpc.data.io.tfrecords import TFRecordFormat, features_of

    return dataset(files(TFRecordFormat(features_of(tf_schema)), locals()), locals())


def read_zarr(
    path: str,
    *,
    filesystem: Any = None,
    chunk_shapes: Any = None,
    array_paths: list[str] | None = None,
    allow_full_metadata_scan: bool = False,
    align_axis_0: bool = False,
    overlap: int = 0,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args: dict[str, Any] | None = None,
) -> Dataset:
    """The chunks of the arrays of a Zarr store: columns array, chunk_index, chunk_slices and chunk.

    ``align_axis_0``: a row for each step of chunks along the first axis, with columns t_start, t_stop and one for each
    array. ``overlap`` more steps are in each row. ``chunk_shapes``: other chunks along the first axes.
    """
    from hpc.data.io.zarr_arrays import ZarrSource

    source = ZarrSource(path, filesystem, chunk_shapes, array_paths, allow_full_metadata_scan, align_axis_0, overlap)
    return dataset(source, locals())


def read_hdf5(
    paths: Paths,
    *,
    datasets: list[str] | None = None,
    filesystem: Any = None,
    include_paths: bool = False,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    ignore_missing_paths: bool = False,
    shuffle: Shuffle = None,
    file_extensions: list[str] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    stage: Stage = None,
) -> Dataset:
    """The steps along the first axis of datasets of HDF5 files, read in whole chunks; a column for each dataset.

    ``datasets``: their paths in the file; None: all there are. They have one length. Tensors keep their shapes.
    """
    from hpc.data.io.hdf5 import Hdf5Format

    return dataset(files(Hdf5Format(None if datasets is None else tuple(datasets)), locals()), locals())


def read_netcdf(
    paths: Paths,
    *,
    variables: list[str] | None = None,
    axis: str | None = None,
    filesystem: Any = None,
    include_paths: bool = False,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    ignore_missing_paths: bool = False,
    shuffle: Shuffle = None,
    file_extensions: list[str] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: int | None = None,
    override_num_blocks: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    stage: Stage = None,
) -> Dataset:
    """The steps along one dimension of variables of NetCDF 4 files; a column for each variable.

    ``axis``: the dimension; the unlimited one, or the first, if it is None. ``variables`` begin with it. Scale, offset
    and missing values are applied.
    """
    from hpc.data.io.hdf5 import NetCdfFormat

    return dataset(files(NetCdfFormat(None if variables is None else tuple(variables), axis), locals()), locals())
