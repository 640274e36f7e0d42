"""What a head must not forget: operations as records. What they add up to is in `restore`.

A head that was killed is started again on its node and reads them. A record is a header of twelve bytes (length,
checksum of the payload, checksum of the header) and a msgpack payload. Only a record that ends too early is a torn
tail: a writer that was killed leaves that. Anything else that does not fit is damage and is refused, since an answer
was given on the strength of it.

Pure: bytes in, operations out; the file is the business of `journal_file`. Rejected: sqlite, where a write costs
milliseconds and there is nothing to query; one file a key, since renames have no order between them. Rejected too: a
copy on another node, for the loss of the head's node ends the session anyway.

Four things are not in here, because the supervisor of the head's node has them and gives them to each head. They are
the keys of admitted nodes, the nodes that were lost, the end of the walltime, and the head's own keys.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any, Protocol, Union

import msgspec

from hpc.core.wire import NodeInfo

MAGIC = b"hpc-jnl1"
_HEADER = struct.Struct("<II")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CHECK.size
#: A record above this size is damage: the largest is a key-value of one frame.
MAX_RECORD_BYTES = 128 << 20


class JournalDamaged(Exception):
    """The journal is not what was written; the text says where."""


class Op(msgspec.Struct, array_like=True, frozen=True):
    """Base of all operations."""


class Began(Op, frozen=True, tag=1):
    """A head began its work under this number."""

    epoch: int


class Joined(Op, frozen=True, tag=2):
    """A node has registered."""

    info: NodeInfo


class Died(Op, frozen=True, tag=3):
    """A node is gone for good; ``info.why`` says why."""

    info: NodeInfo


class NameSet(Op, frozen=True, tag=4):
    """An actor has a name."""

    namespace: str
    name: str
    actor: bytes
    handle: bytes


class NameGone(Op, frozen=True, tag=5):
    """The name is free."""

    namespace: str
    name: str


class KeySet(Op, frozen=True, tag=6):
    """A key has a value since this version (see `watch`)."""

    namespace: str
    key: bytes
    value: bytes
    version: int


class KeyGone(Op, frozen=True, tag=7):
    """The key is deleted since this version."""

    namespace: str
    key: bytes
    version: int


class Answered(Op, frozen=True, tag=8):
    """What a process was told about a question that changed something: asked again, it is told the same."""

    node: int
    proc: int
    req: int
    ok: bool
    data: bytes
    why: str


class PartSet(Op, frozen=True, tag=9):
    """A row of a part of the head, as plain data; None if there is no such row any more."""

    part: str
    key: bytes
    data: Any


AnyOp = Union[Began, Joined, Died, NameSet, NameGone, KeySet, KeyGone, Answered, PartSet]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AnyOp).decode


class Part(Protocol):
    """A part of the head that is journaled by rows (`HeadMachine.parts`), each as plain data: what msgpack can hold."""

    def changes(self) -> Iterable[tuple[bytes, Any]]:
        """Key and row of what has changed since this was asked last; None for a row that is gone."""

    def rows(self) -> Iterable[tuple[bytes, Any]]:
        """All rows."""

    def load(self, key: bytes, data: Any) -> None:
        """Take over a row."""


def encode(op: AnyOp) -> bytes:
    """One record."""
    payload = _encode(op)
    header = _HEADER.pack(len(payload), zlib.crc32(payload))
    return header + _CHECK.pack(zlib.crc32(header)) + payload


def decode(data: bytes) -> tuple[list[AnyOp], int]:
    """The operations in a journal, and how many of its bytes are whole records: what follows is a torn tail.

    Raises JournalDamaged where anything but the end is missing.
    """
    if len(data) < len(MAGIC):
        if not MAGIC.startswith(data):
            raise JournalDamaged("it does not begin as a journal does")
        return [], 0
    if not data.startswith(MAGIC):
        raise JournalDamaged("it does not begin as a journal does, or is of another version")
    ops: list[AnyOp] = []
    at = len(MAGIC)
    view = memoryview(data)
    while len(data) - at >= HEADER_BYTES:
        size, check = _HEADER.unpack_from(view, at)
        (header_check,) = _CHECK.unpack_from(view, at + _HEADER.size)
        if header_check != zlib.crc32(view[at : at + _HEADER.size]) or size > MAX_RECORD_BYTES:
            raise JournalDamaged(f"the header of record {len(ops)}, at byte {at}, is damaged")
        start = at + HEADER_BYTES
        if len(data) - start < size:
            break
        payload = view[start : start + size]
        if zlib.crc32(payload) != check:
            raise JournalDamaged(f"record {len(ops)}, at byte {at}, is damaged")
        try:
            ops.append(_decode(payload))
        except msgspec.DecodeError as error:
            raise JournalDamaged(f"record {len(ops)}, at byte {at}, is not understood: {error}") from None
        at = start + size
    return ops, at
