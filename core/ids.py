"""Names of things: addresses of processes, ids of tasks, objects and actors.

An id carries its owner's address, so that whoever holds one knows whom to ask about it and no directory is
needed. Node and process numbers are never used twice within a session: a number is its own incarnation.
Random 128-bit ids were rejected: making one costs 0.5-1.9 µs and they say nothing about the owner.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

ID_BYTES = 16
HEAD_NODE = 0
RAYLET_PROC = 0

_ID = struct.Struct(">IIQ")


class Address(NamedTuple):
    """Where a process is: the node's number and the process's number on it.

    Node 0 is the head. Process 0 of a node is its raylet.
    """

    node: int
    proc: int

    def __str__(self) -> str:
        return f"{self.node}.{self.proc}"


HEAD = Address(HEAD_NODE, 0)


def raylet_of(node: int) -> Address:
    """The address of the raylet of a node."""
    return Address(node, RAYLET_PROC)


def make_id(owner: Address, counter: int) -> bytes:
    """The id of a task, object or actor: its owner's address and the owner's counter."""
    return _ID.pack(owner[0], owner[1], counter)


def id_prefix(owner: Address) -> bytes:
    """The first eight bytes of every id made by this owner; the counter follows as eight bytes, big-endian."""
    return struct.pack(">II", *owner)


def owner_of(ident: bytes) -> Address:
    """The address of the process that owns the id."""
    node, proc, _ = _ID.unpack(ident)
    return Address(node, proc)


def return_id(task_id: bytes, index: int) -> bytes:
    """The id of a task's return value number ``index`` (the first one has the task's own id)."""
    if not index:
        return task_id
    node, proc, counter = _ID.unpack(task_id)
    return _ID.pack(node, proc, counter + index)
