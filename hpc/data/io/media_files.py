"""Audio, video and MCAP files, decoded by packages that are needed for nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block import build
from hpc.data.io.formats import Format, ValueFormat
from hpc.data.io.grouping import Piece
from hpc.data.io.opened import OpenFile
from hpc.data.packages import needs

#: A table of frames has about so many bytes, and a table of messages so many rows.
TABLE = 8 << 20
MESSAGES = 1024


@dataclass(frozen=True)
class AudioFormat(ValueFormat):
    """A row for each file: ``amplitude`` (channels x samples, float32) and ``sample_rate``."""

    name = "Audio"
    column = "amplitude"
    factor = 4.0

    def __post_init__(self) -> None:
        needs("soundfile", "read_audio", "soundfile")

    def value(self, file: OpenFile) -> tuple[dict[str, Any], int]:
        soundfile = needs("soundfile", "read_audio", "soundfile")
        try:
            samples, rate = soundfile.read(io.BytesIO(file.raw()), always_2d=True, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise file.error(f"this is no audio that soundfile reads: {error.error_string}") from error
        samples = np.ascontiguousarray(samples.T)
        return {"amplitude": samples, "sample_rate": rate}, samples.nbytes

    def table(self, values: list[dict[str, Any]]) -> pa.Table:
        return build.from_rows(values)


@dataclass(frozen=True)
class VideoFormat(Format):
    """A row for each frame: ``frame`` (height x width x 3), ``frame_index``, and its begin and end in seconds.

    ``fps``: about so many frames of a second. ``size``: (height, width) of the frames.
    """

    timestamps: bool = False
    fps: int | None = None
    size: tuple[int, int] | None = None

    name = "Video"
    factor = 100.0

    def __post_init__(self) -> None:
        needs("av", "read_videos", "av")
        if self.fps is not None and (not isinstance(self.fps, int) or self.fps <= 0):
            raise ValueError(f"fps is a number of frames above 0, and not {self.fps!r}")
        if self.size is not None and (len(self.size) != 2 or not all(isinstance(n, int) and n > 0 for n in self.size)):
            raise ValueError(f"resize is (height, width), both above 0, and not {self.size!r}")

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        av = needs("av", "read_videos", "av")
        waiting: list[dict[str, Any]] = []
        nbytes = 0
        try:
            with av.open(file.local or io.BytesIO(file.raw())) as video:
                if not video.streams.video:
                    raise file.error("there are no frames in it")
                for row in self.frames(video):
                    waiting.append(row)
                    nbytes += row["frame"].nbytes
                    if nbytes >= TABLE:
                        yield build.from_rows(waiting)
                        waiting, nbytes = [], 0
        except av.FFmpegError as error:
            raise file.error(f"this is no video that av reads: {error}") from error
        if waiting:
            yield build.from_rows(waiting)

    def frames(self, video: Any) -> Iterator[dict[str, Any]]:
        stream = video.streams.video[0]
        rate = float(stream.average_rate or 0)
        step = max(1, round(rate / self.fps)) if self.fps is not None and rate else 1
        shape = {} if self.size is None else {"height": self.size[0], "width": self.size[1]}
        for index, frame in enumerate(video.decode(stream)):
            if index % step:
                continue
            row = {"frame": frame.reformat(format="rgb24", **shape).to_ndarray(), "frame_index": index}
            if self.timestamps:
                begin = frame.time if frame.time is not None else index / rate if rate else 0.0
                row["frame_timestamp"] = np.array([begin, begin + (1 / rate if rate else 0.0)])
            yield row


@dataclass(frozen=True)
class TimeRange:
    """Times from ``start_time`` to before ``end_time``, in nanoseconds. Raises ValueError for no such times."""

    start_time: int
    end_time: int

    def __post_init__(self) -> None:
        if self.start_time < 0 or self.start_time >= self.end_time:
            raise ValueError(
                f"times go from 0 or later to a later one, and not from {self.start_time} to {self.end_time}"
            )


@dataclass(frozen=True)
class McapFormat(Format):
    """A row for each message of an MCAP file, by the time of its log. JSON is decoded; other messages are bytes."""

    topics: tuple[str, ...] | None = None
    times: TimeRange | None = None
    kinds: frozenset[str] | None = None
    metadata: bool = True

    name = "MCAP"

    def __post_init__(self) -> None:
        needs("mcap", "read_mcap", "mcap")

    def tables(self, file: OpenFile, piece: Piece, columns: list[str] | None) -> Iterator[pa.Table]:
        reader = needs("mcap.reader", "read_mcap", "mcap")
        errors = needs("mcap.exceptions", "read_mcap", "mcap")
        waiting: list[dict[str, Any]] = []
        times = self.times
        with file.random() as opened:
            if not opened.size():
                return
            try:
                for schema, channel, message in reader.make_reader(opened).iter_messages(
                    topics=None if self.topics is None else list(self.topics),
                    **({} if times is None else {"start_time": times.start_time, "end_time": times.end_time}),
                ):
                    if self.kinds is None or schema is None or schema.name in self.kinds:
                        waiting.append(self.row(schema, channel, message))
                    if len(waiting) >= MESSAGES:
                        yield build.from_rows(waiting)
                        waiting = []
            except errors.McapError as error:
                raise file.error(f"this is no whole MCAP file: {error}") from error
        if waiting:
            yield build.from_rows(waiting)

    def row(self, schema: Any, channel: Any, message: Any) -> dict[str, Any]:
        data = message.data
        if channel.message_encoding == "json":
            try:
                data = json.loads(data)
            except ValueError:
                pass  # It stays as it is.
        row = {
            "data": data,
            "topic": channel.topic,
            "log_time": message.log_time,
            "publish_time": message.publish_time,
            "sequence": message.sequence,
        }
        if self.metadata:
            row["channel_id"] = message.channel_id
            row["message_encoding"] = channel.message_encoding
            row["schema_name"] = schema.name if schema is not None else None
            row["schema_encoding"] = schema.encoding if schema is not None else None
            row["schema_data"] = schema.data if schema is not None else None
        return row
