"""The base of all messages, and what limits a frame."""

from __future__ import annotations

import struct

import msgspec

WIRE_VERSION = 3
HEADER = struct.Struct("<IIIII")
HEADER_BYTES = HEADER.size
#: The one limit of the wire. A larger body is refused: its sender is broken or hostile. Senders split by it
#: (`net.frames`), and a link between nodes takes whatever fits into such a frame.
MAX_FRAME_BYTES = 64 << 20


class Message(msgspec.Struct, array_like=True, gc=False, frozen=False):
    """Base of all messages."""
