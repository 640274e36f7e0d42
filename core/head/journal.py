"""What a head must not forget: operations as records, and the state that they add up to.

A head that was killed is started again on its node and reads them. A record is a header of twelve bytes (length,
checksum of the payload, checksum of the header) and a msgpack payload. Only a record that ends too early is a torn
tail, which is what a writer that was killed leaves; anything else that does not fit is damage, and is refused: an
answer was given on the strength of it.

Pure: bytes in, operations out; the file is the business of `journal_file`. Rejected: sqlite (a write costs
milliseconds and there is nothing to query), one file a key (renames without an order between them), a copy on another
node (the loss of the head's node ends the session anyway).

Not in here, because the supervisor of the head's node has it and gives it to each head: the keys of admitted nodes,
nodes that were lost, the end of the walltime, the head's own keys.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, Union

import msgspec

from hpc.core.wire import NodeInfo

if TYPE_CHECKING:
    from hpc.core.head.machine import HeadMachine

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
    """A key has a value."""

    namespace: str
    key: bytes
    value: bytes


class KeyGone(Op, frozen=True, tag=7):
    """The key is deleted."""

    namespace: str
    key: bytes


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


def restore(machine: HeadMachine, ops: Iterable[AnyOp]) -> None:
    """Bring an empty machine to the state that the operations lead to. Nodes count as suspect until they register anew,
    and have the whole of ``dead_s`` for that: the head's own absence is held against nobody."""
    from hpc.core.head.machine import Named
    from hpc.core.head.nodes import Node

    for op in ops:
        if isinstance(op, Began):
            machine.epoch = op.epoch
        elif isinstance(op, Joined):
            machine.nodes[op.info.node] = Node(op.info, {}, machine.now, suspect=True)
        elif isinstance(op, Died):
            machine.nodes.pop(op.info.node, None)
            machine.dead[op.info.node] = op.info
        elif isinstance(op, NameSet):
            machine.names[(op.namespace, op.name)] = Named(op.actor, op.handle)
        elif isinstance(op, NameGone):
            machine.names.pop((op.namespace, op.name), None)
        elif isinstance(op, KeySet):
            old = machine.kv.get((op.namespace, op.key), b"")
            machine.kv_bytes += len(op.value) - len(old)
            machine.kv[(op.namespace, op.key)] = op.value
        elif isinstance(op, KeyGone):
            machine.kv_bytes -= len(machine.kv.pop((op.namespace, op.key), b""))
        elif isinstance(op, Answered):
            machine.remember(op)
        else:
            machine.parts[op.part].load(op.key, op.data)


def snapshot(machine: HeadMachine) -> Iterator[AnyOp]:
    """The shortest list of operations that leads to the machine's state."""
    yield Began(machine.epoch)
    for node in machine.nodes.values():
        yield Joined(node.info)
    for info in machine.dead.values():
        yield Died(info)
    for (namespace, name), named in machine.names.items():
        yield NameSet(namespace, name, named.actor, named.handle)
    for (namespace, key), value in machine.kv.items():
        yield KeySet(namespace, key, value)
    yield from machine.answered.values()
    for name, part in machine.parts.items():
        for row_key, row in part.rows():
            yield PartSet(name, row_key, row)
