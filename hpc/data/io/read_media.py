"""The functions that read audio, video and MCAP files."""

from __future__ import annotations

from typing import Any

from hpc.data.io.given import Dataset, dataset, files
from hpc.data.io.partitioning import Partitioning, PathPartitionFilter
from hpc.data.io.read_tables import Paths, Shuffle, Stage

AUDIO = [
    "mp3", "wav", "aac", "flac", "ogg", "m4a", "wma", "alac", "aiff", "pcm", "amr", "opus", "ra", "rm", "au", "mid",
    "midi", "caf",
]  # fmt: skip
VIDEO = [
    "mp4", "mkv", "mov", "avi", "wmv", "flv", "webm", "m4v", "3gp", "mpeg", "mpg", "ts", "ogv", "rm", "rmvb", "vob",
    "asf", "f4v", "m2ts", "mts", "divx", "xvid", "mxf",
]  # fmt: skip
MCAP = ["mcap"]


def read_audio(
    paths: Paths,
    *,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    file_extensions: list[str] | None = AUDIO,
    shuffle: Shuffle = None,
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
    stage: Stage = None,
) -> Dataset:
    """A row for each file: ``amplitude`` (channels x samples, float32) and ``sample_rate``. It needs soundfile."""
    from hpc.data.io.media_files import AudioFormat

    return dataset(files(AudioFormat(), locals()), locals())


def read_videos(
    paths: Paths,
    *,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    include_timestamps: bool = False,
    fps: int | None = None,
    resize: tuple[int, int] | None = None,
    ignore_missing_paths: bool = False,
    file_extensions: list[str] | None = VIDEO,
    shuffle: Shuffle = None,
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
    stage: Stage = None,
) -> Dataset:
    """A row for each frame of videos: ``frame`` (height x width x 3) and ``frame_index``. It needs the package av.

    ``include_timestamps``: also ``frame_timestamp``, begin and end in seconds. ``fps``: about so many frames of a
    second. ``resize``: (height, width) of the frames.
    """
    from hpc.data.io.media_files import VideoFormat

    form = VideoFormat(include_timestamps, fps, None if resize is None else tuple(resize))  # type: ignore[arg-type]
    return dataset(files(form, locals()), locals())


def read_mcap(
    paths: Paths,
    *,
    topics: list[str] | set[str] | None = None,
    time_range: Any = None,
    message_types: list[str] | set[str] | None = None,
    include_metadata: bool = True,
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
    """A row for each message of MCAP files: ``data``, ``topic`` and its times, by the time of the log. It needs mcap.

    ``topics`` and ``message_types`` (names of schemas): these alone. ``time_range``: a TimeRange or two times, in
    nanoseconds, the end left out. ``include_metadata``: also the channel and the schema.
    """
    from hpc.data.io.media_files import McapFormat, TimeRange

    form = McapFormat(
        tuple(sorted(topics)) if topics else None,
        TimeRange(*time_range) if isinstance(time_range, (tuple, list)) else time_range,
        frozenset(message_types) if message_types else None,
        include_metadata,
    )
    return dataset(files(form, {**locals(), "file_extensions": file_extensions or MCAP}), locals())
