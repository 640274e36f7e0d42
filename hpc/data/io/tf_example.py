"""The messages ``tf.train.Example`` of record files, without protobuf: features by name, each bytes, floats or ints."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from hpc.util.protobuf import bytes_field, varint

BYTES, FLOATS, INTS = 1, 2, 3
#: Types of a serialized tensor.
TENSOR_TYPES = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "int64": 9, "bool": 10, "uint16": 17,
    "float16": 19, "uint32": 22, "uint64": 23,
}  # fmt: skip


class ExampleError(ValueError):
    """The bytes are no Example."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
    except IndexError:
        raise ExampleError("an Example ends within a number") from None


def fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """The number, the wire type and the value of each field of a message."""
    at, end = 0, len(data)
    while at < end:
        tag, at = read_varint(data, at)
        wire = tag & 7
        if wire == 2:
            size, at = read_varint(data, at)
            if at + size > end:
                raise ExampleError("an Example ends within a field")
            yield tag >> 3, wire, data[at : at + size]
            at += size
        elif wire == 0:
            value, at = read_varint(data, at)
            yield tag >> 3, wire, value
        elif wire == 5:
            yield tag >> 3, wire, data[at : at + 4]
            at += 4
        elif wire == 1:
            yield tag >> 3, wire, data[at : at + 8]
            at += 8
        else:
            raise ExampleError(f"an Example has a field of the wire type {wire}")


def decode(data: bytes) -> dict[str, tuple[int, list[Any]]]:
    """The features of an Example: kind (BYTES, FLOATS, INTS, or 0 for none) and values."""
    found: dict[str, tuple[int, list[Any]]] = {}
    for number, _, features in fields(data):
        if number != 1:
            continue
        for _, _, entry in fields(features):
            name, feature = "", b""
            for part, _, value in fields(entry):
                if part == 1:
                    name = value.decode()
                elif part == 2:
                    feature = value
            found[name] = values_of(feature)
    return found


def values_of(feature: bytes) -> tuple[int, list[Any]]:
    for kind, _, content in fields(feature):
        if kind == BYTES:
            return BYTES, [value for _, _, value in fields(content)]
        if kind == FLOATS:
            parts = [value for _, _, value in fields(content)]
            return FLOATS, np.frombuffer(b"".join(parts), "<f4").tolist()
        if kind == INTS:
            return INTS, [signed(value) for _, wire, part in fields(content) for value in ints(wire, part)]
    return 0, []


def ints(wire: int, part: Any) -> Iterator[int]:
    if wire == 0:
        yield part
        return
    at = 0
    while at < len(part):
        value, at = read_varint(part, at)
        yield value


def signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def encode(features: dict[str, tuple[int, list[Any]]]) -> bytes:
    """An Example of features: kind and values of each."""
    entries = []
    for name, (kind, values) in features.items():
        if kind == BYTES:
            content = b"".join(bytes_field(1, value) for value in values)
        elif kind == FLOATS:
            content = bytes_field(1, struct.pack(f"<{len(values)}f", *values)) if values else b""
        else:
            content = bytes_field(1, b"".join(varint(int(value)) for value in values)) if values else b""
        feature = bytes_field(kind, content) if kind else b""
        entries.append(bytes_field(1, bytes_field(1, name.encode()) + bytes_field(2, feature)))
    return bytes_field(1, b"".join(entries))


def tensor(array: np.ndarray) -> bytes:
    """An array as TensorFlow serializes a tensor."""
    kind = TENSOR_TYPES.get(array.dtype.name)
    if kind is None:
        raise ValueError(f"TensorFlow has no tensors of the type {array.dtype}")
    shape = b"".join(bytes_field(2, varint(1 << 3) + varint(size)) for size in array.shape)
    return varint(1 << 3) + varint(kind) + bytes_field(2, shape) + bytes_field(4, np.ascontiguousarray(array).tobytes())
