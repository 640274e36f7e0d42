"""From the arguments of a ``read_*`` function to a source and a dataset: what all of these functions share."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

import pyarrow.fs as pafs

from hpc.data.io import manifest, paths, stage
from hpc.data.io.files import FileSource, Reading
from hpc.data.io.formats import Format
from hpc.data.io.opened import FileOpener
from hpc.data.io.parquet import ParquetSource
from hpc.data.io.partitioning import Partitioning, PathPartitionFilter, PathPartitionParser
from hpc.data.io.source import Source

Dataset: TypeAlias = Any

#: Arguments that say how the tasks of a read are run, by the names that all functions have for them.
RUNNING = (
    "num_cpus", "num_gpus", "memory", "concurrency", "compute", "label_selector", "fallback_strategy", "max_calls",
    "resources", "accelerator_type", "runtime_env", "ray_remote_args",
)  # fmt: skip
IMAGES = ["png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif"]
COMPRESSED = ("", ".gz", ".br", ".zst", ".lz4")
JSONS = [f"{name}{codec}" for codec in COMPRESSED for name in ("json", "jsonl")]


def dataset(source: Source, given: Mapping[str, Any]) -> Dataset:
    """The dataset of a source, with the arguments that the user gave."""
    running = {name: given[name] for name in RUNNING if given.get(name) is not None}
    home = importlib.import_module("hpc.data.dataset")
    return home.from_source(source, parallelism=parallelism(given), **running)


def parallelism(given: Mapping[str, Any]) -> int:
    """Into how many tasks a read is split: -1 for as many as its size asks for. Raises ValueError for 0 and less."""
    wanted = given.get("parallelism", -1)
    if wanted != -1:
        warnings.warn("parallelism is deprecated: use override_num_blocks", DeprecationWarning, stacklevel=4)
    elif given.get("override_num_blocks") is not None:
        wanted = given["override_num_blocks"]
    if not isinstance(wanted, int) or (wanted != -1 and wanted <= 0):
        raise ValueError(f"override_num_blocks is a number of blocks above 0, and not {wanted!r}")
    return wanted


def files(form: Format, given: Mapping[str, Any]) -> FileSource:
    """The source of the files that the arguments name.

    Raises FileNotFoundError for a path that is missing, and ValueError if there is no file.
    """
    roots, filesystem = paths.resolve(given["paths"], given.get("filesystem"))
    partitioning = given.get("partitioning")
    if not (partitioning is None or isinstance(partitioning, Partitioning)):
        raise TypeError(f"partitioning is a Partitioning or None, and not {type(partitioning).__name__}")
    partition_filter = given.get("partition_filter")
    if not (partition_filter is None or isinstance(partition_filter, PathPartitionFilter)):
        raise TypeError(f"partition_filter is a PathPartitionFilter or None: {partition_filter!r}")
    found = manifest.of(roots, filesystem, given.get("file_extensions"), bool(given.get("ignore_missing_paths")))
    reading = Reading(
        form,
        opener(filesystem, given),
        PathPartitionParser(partitioning) if partitioning is not None else None,
        bool(given.get("include_paths")),
    )
    skipped = given.get("skip_paths")
    kind = ParquetSource if form.name == "Parquet" else FileSource
    return kind(
        found,
        reading,
        partition_filter=partition_filter,
        shuffle=given.get("shuffle"),
        skip=frozenset(paths.resolve(skipped, given.get("filesystem"))[0]) if skipped else frozenset(),
        node=this_node() if paths.is_local_scheme(given["paths"]) else None,
    )


def opener(filesystem: pafs.FileSystem | None, given: Mapping[str, Any]) -> FileOpener:
    args = given.get("arrow_open_stream_args") or given.get("arrow_open_file_args") or {}
    return FileOpener(filesystem, dict(args), stage.of(given.get("stage")))


def this_node() -> str:
    """The id of the driver's node: paths that begin with local:// are there alone."""
    import hpc

    return hpc.get_runtime_context().get_node_id()
