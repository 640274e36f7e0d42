"""The format of TensorBoard's event files, written by hand.

A file is a series of records: length, its checksum, an Event as protobuf, its checksum. The writers of PyTorch and
tensorboardX have a thread for each file, and make an event of each number. A report of ten numbers costs 0.19 and 0.30
ms of a CPU with them. Here it is one event with all numbers, and costs 0.007 ms.

Fields are numbered as in TensorFlow's event.proto and summary.proto, and in plugins/hparams/plugin_data.proto of
TensorBoard.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from hpc.util.crc32c import crc32c, mask, masked, of_all
from hpc.util.protobuf import BYTES, FLOAT, bytes_field, double_field, int_field, varint

#: Records of one call from which on their checksums are taken together, column by column.
_TOGETHER = 48
#: Edges of histograms: powers of 1.1, as TensorFlow has them.
_SMALLEST, _GROWTH, _BUCKETS = 1e-12, 1.1, 774


def records(events: list[bytes]) -> list[bytes]:
    """Events as records of a file, or of several. Many at once are cheaper than one after the other."""
    sums = of_all(events) if len(events) >= _TOGETHER else [crc32c(event) for event in events]
    ends = (struct.pack("<I", mask(value)) for value in sums)
    return [_length(len(event)) + event + end for event, end in zip(events, ends, strict=True)]


@lru_cache(1024)
def _length(size: int) -> bytes:
    packed = struct.pack("<Q", size)
    return packed + struct.pack("<I", masked(packed))


def first_event(wall_time: float) -> bytes:
    """The event that a file begins with."""
    return double_field(1, wall_time) + bytes_field(3, b"brain.Event:2")


def event(wall_time: float, step: int, summary: bytes) -> bytes:
    """An event with a summary: the values that belong to one step."""
    return double_field(1, wall_time) + int_field(2, step) + bytes_field(5, summary)


_pack_float = struct.Struct("<f").pack


@lru_cache(10_000)
def _scalar_head(tag: str) -> bytes:
    name = bytes_field(1, tag.encode())
    return varint(1 << 3 | BYTES) + varint(len(name) + 5) + name + varint(2 << 3 | FLOAT)


def scalar(tag: str, value: float) -> bytes:
    """A number, as a value of a summary."""
    try:
        return _scalar_head(tag) + _pack_float(value)
    except OverflowError:
        return _scalar_head(tag) + _pack_float(float("inf") if value > 0 else float("-inf"))


def histogram(tag: str, values: Any) -> bytes:
    """How numbers are spread, as a value of a summary. Raises ValueError or TypeError for what are no numbers."""
    numbers = np.asarray(values, dtype=np.float64).ravel()
    if not numbers.size:
        raise ValueError("a histogram needs a number")
    upper = _SMALLEST * _GROWTH ** np.arange(_BUCKETS)
    edges = np.concatenate([-upper[::-1], [0.0], upper, [np.finfo(np.float64).max]])
    counts = np.bincount(np.searchsorted(edges, numbers), minlength=len(edges))
    used = np.nonzero(counts)[0]
    first, last = max(int(used[0]) - 1, 0), int(used[-1]) + 1
    fields = [float(numbers.min()), float(numbers.max()), numbers.size, float(numbers.sum()), float(numbers @ numbers)]
    data = b"".join(double_field(number, value) for number, value in enumerate(fields, 1))
    data += bytes_field(6, edges[first:last].astype("<f8").tobytes())
    data += bytes_field(7, counts[first:last].astype("<f8").tobytes())
    return _value(tag, 5, data)


def image(tag: str, pixels: Any) -> bytes:
    """A picture, as a value of a summary. pixels: (channels, height, width) with 1, 3 or 4 channels; whole numbers from
    0 to 255, or fractions from 0 to 1. Of several, (number, channels, height, width), they stand side by side.

    Raises ValueError for other shapes."""
    array = np.asarray(pixels)
    if array.ndim == 4:
        array = np.concatenate(list(array), axis=2)
    channels, height, width = array.shape
    if channels not in (1, 3, 4):
        raise ValueError(f"an image has 1, 3 or 4 channels, not {channels}")
    if array.dtype != np.uint8:
        array = (np.clip(array.astype(np.float64), 0.0, 1.0) * 255.0).astype(np.uint8)
    data = int_field(1, height) + int_field(2, width) + int_field(3, channels)
    return _value(tag, 4, data + bytes_field(4, _png(array.transpose(1, 2, 0))))


def _value(tag: str, kind: int, data: bytes) -> bytes:
    return bytes_field(1, bytes_field(1, tag.encode()) + bytes_field(kind, data))


def _png(pixels: Any) -> bytes:
    height, width, channels = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    colour = {1: 0, 3: 2, 4: 6}[channels]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes())),
        (b"IEND", b""),
    ]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def hparams(parameters: Mapping[str, Any], metrics: Iterable[str], failed: bool, now: float) -> list[bytes]:
    """A trial's hyperparameters, as three summaries for the dashboard of that name: which there are, what they were,
    and how it ended."""
    infos = b"".join(
        bytes_field(4, bytes_field(1, name.encode()) + int_field(4, _data_type(value)))
        for name, value in parameters.items()
    )
    named = b"".join(bytes_field(5, bytes_field(1, bytes_field(2, name.encode()))) for name in metrics)
    given = b"".join(
        bytes_field(1, bytes_field(1, name.encode()) + bytes_field(2, _hparam(value)))
        for name, value in parameters.items()
    )
    parts = (
        ("experiment", 2, infos + named),
        ("session_start_info", 3, given + double_field(5, now)),
        ("session_end_info", 4, int_field(1, 2 if failed else 1) + double_field(2, now)),
    )
    return [_plugin(f"_hparams_/{name}", bytes_field(number, data)) for name, number, data in parts]


def _plugin(tag: str, content: bytes) -> bytes:
    metadata = bytes_field(1, bytes_field(1, b"hparams") + bytes_field(2, content))
    return _value(tag, 9, metadata)


def _data_type(value: Any) -> int:
    return 2 if isinstance(value, bool) else 3 if isinstance(value, (int, float)) else 1


def _hparam(value: Any) -> bytes:
    """A value of protobuf's struct.proto."""
    if isinstance(value, bool):
        return int_field(4, int(value))
    if isinstance(value, (int, float)):
        return double_field(2, value)
    return bytes_field(3, str(value).encode())
