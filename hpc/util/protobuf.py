"""Fields of protobuf messages as bytes, for formats of files of which a few fields are needed."""

from __future__ import annotations

import struct

#: Kinds of fields on the wire.
VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """A whole number; of one below 0 its 64 bits."""
    value &= 0xFFFFFFFFFFFFFFFF
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def bytes_field(number: int, data: bytes) -> bytes:
    """A field of bytes, of text, or of a message."""
    return varint(number << 3 | BYTES) + varint(len(data)) + data


def int_field(number: int, value: int) -> bytes:
    """A field of a whole number."""
    return varint(number << 3 | VARINT) + varint(value)


def double_field(number: int, value: float) -> bytes:
    """A field of a number of 64 bits."""
    return varint(number << 3 | DOUBLE) + struct.pack("<d", value)
