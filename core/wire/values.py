"""Values as they travel: in a message, in arenas, or as an error."""

from __future__ import annotations

from typing import Any

import msgspec

from hpc.core.wire.base import MAX_FRAME_BYTES, Message

#: The tags of the messages of this file.
TAGS = range(1, 2)
#: The values in one message take at most so much together: results beyond are stored, arguments beyond are left to the
#: receiver to ask for (AT_OWNER), and errors are shortened to it.
MAX_VALUES_BYTES = MAX_FRAME_BYTES // 8
# Kinds of a Result: a value in the message, an object in arenas, a pickled exception, an error of the runtime's own (a
# msgpack map with "type" and "why": machines never pickle), and, among arguments only, a small value of ``size`` bytes
# for which this message had no room: its owner is asked for it.
INLINE, STORED, ERROR, SYSTEM, AT_OWNER = 0, 1, 2, 3, 4
#: The value None and the arguments of a call without any, as they travel: pickled once, by hand (the tests compare).
NONE = b"\x80\x05N."
NO_ARGUMENTS = b"\x80\x05\x95\x06\0\0\0\0\0\0\0)}\x94\x86\x94."


class Result(Message, tag=1):
    """One value: bytes in the message (INLINE, ERROR, SYSTEM) or an object in arenas (STORED), with its references."""

    kind: int
    data: bytes
    size: int = 0
    nodes: tuple[int, ...] = ()
    inner: tuple[bytes, ...] = ()


def system_error(kind: str, why: str, **more: Any) -> Result:
    """A result that is an error of the runtime's own; ``kind`` names the exception class."""
    return Result(SYSTEM, msgspec.msgpack.encode({"type": kind, "why": why, **more}))


def pack_cause(error: Result) -> bytes:
    """An error as a field of another one (``cause`` of a `system_error`)."""
    return msgspec.msgpack.encode([error.kind, error.data])
