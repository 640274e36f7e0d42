"""Names of things: addresses of processes, ids of tasks, objects and actors.

An id carries its owner's address, so that whoever holds one knows whom to ask about it and no directory is needed. Node
and process numbers are never used twice within a session: a number is its own incarnation. Numbers begin anew in each
session, and references outlive sessions (in variables, closures, files). So an id begins with four bytes of its
session's name: an old id is never taken for another object of this session. Random 128-bit ids were rejected: making
one costs 0.5-1.9 µs and they say nothing about the owner.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

ID_BYTES = 20
SESSION_BYTES = 4
#: The session of ids that are made without one, as by tests and the simulator.
NO_SESSION = bytes(SESSION_BYTES)
#: The id of nothing.
NIL = bytes(ID_BYTES)
HEAD_NODE = 0
RAYLET_PROC = 0

_ID = struct.Struct(">4sIIQ")


class Address(NamedTuple):
    """Where a process is: the node's number and the process's number on it.

    Node 0 is the head. Process 0 of a node is its raylet.
    """

    node: int
    proc: int

    def __str__(self) -> str:
        return f"{self.node}.{self.proc}"


HEAD = Address(HEAD_NODE, 0)


def is_address(addr: Address) -> bool:
    """Whether a frame can have this address: others may have made it up."""
    return 0 <= addr.node < 1 << 32 and 0 <= addr.proc < 1 << 32


def raylet_of(node: int) -> Address:
    """The address of the raylet of a node."""
    return Address(node, RAYLET_PROC)


def session_mark(name: str) -> bytes:
    """What ids of the session of this name begin with."""
    return zlib.crc32(name.encode()).to_bytes(SESSION_BYTES, "big")


def make_id(owner: Address, counter: int, session: bytes = NO_SESSION) -> bytes:
    """The id of a task, object or actor: its session's mark, its owner's address and the owner's counter."""
    return _ID.pack(session, owner[0], owner[1], counter)


def id_prefix(owner: Address, session: bytes = NO_SESSION) -> bytes:
    """What every id made by this owner begins with; the counter follows as eight bytes, big-endian."""
    return session + struct.pack(">II", *owner)


def owner_of(ident: bytes) -> Address:
    """The address of the process that owns the id."""
    _, node, proc, _ = _ID.unpack(ident)
    return Address(node, proc)


def ids_from(first: bytes, count: int) -> list[bytes]:
    """The ids of one owner that follow each other from ``first`` on."""
    prefix, number = first[:-8], int.from_bytes(first[-8:], "big")
    return [prefix + (number + k).to_bytes(8, "big") for k in range(count)]


def return_id(task_id: bytes, index: int) -> bytes:
    """The id of a task's return value number ``index`` (the first one has the task's own id)."""
    if not index:
        return task_id
    session, node, proc, counter = _ID.unpack(task_id)
    return _ID.pack(session, node, proc, counter + index)
