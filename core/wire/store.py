"""The object store of a node: a process and its raylet."""

from __future__ import annotations

from typing import Literal

from hpc.core.causes import FetchCause
from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(64, 80)


class Alloc(Message, tag=64):
    """Ask for space in the node's arena, for the object ``ident``, and for a span of ``ahead`` bytes for those that
    follow it."""

    req: int
    size: int
    ident: bytes
    ahead: int = 0


class Allocated(Message, tag=65):
    """Space was found, at ``offset``; ``offset`` is -1 where there is none, and ``why`` says so. Beside it, the process
    may place objects by itself in the ``ahead`` bytes at ``span``."""

    req: int
    offset: int
    why: str = ""
    span: int = -1
    ahead: int = 0


class Seal(Message, tag=66):
    """The object at ``offset`` is complete: in space that was allocated for it, or in the sealer's span. With ``keep``
    the sealer keeps a pin on it."""

    ident: bytes
    offset: int
    size: int
    keep: bool = True


class Abandon(Message, tag=67):
    """Space that was allocated will not be used after all; of a span, the ``size`` bytes that begin there."""

    offset: int
    size: int = 0


class AskSealed(Message, tag=68):
    """To a process that has a span: say when all that it has sealed so far is on its way."""

    round: int


class AllSealed(Message, tag=69):
    """The answer; the process's Seals went before it."""

    round: int


class Unpin(Message, tag=70):
    """The process has neither views of, nor further use for, these objects' memory."""

    idents: list[bytes]


class PleaseUnpin(Message, tag=71):
    """The raylet needs room: give back the pins that no view needs, with an Unpin (which may be empty)."""


class Free(Message, tag=72):
    """The owner says that nobody holds these objects any more. With ``writer``, a process of the node that has ended,
    it means only what that one has written. The owner has not heard of it, and another process may write them again."""

    idents: list[bytes]
    writer: int = 0


#: What a list of inherited objects is: further ones, some that are not needed any more, or all that there are.
Which = Literal["more", "less", "all"]


class Inherit(Message, tag=77):
    """From the head: these stay when their owner ends, for actors that the head owns."""

    idents: list[bytes]
    which: Which


class Fetch(Message, tag=73):
    """Make an object readable on this node: pin it, pulling it from one of ``nodes`` first where needed."""

    ident: bytes
    size: int
    nodes: list[int]


class Fetched(Message, tag=74):
    """The answer to Fetch: where it lies; ``offset`` is -1 where it could not be had, because of ``cause``."""

    ident: bytes
    offset: int
    size: int
    cause: FetchCause = ""
    why: str = ""
    lost: list[int] = []


class FetchAll(Message, tag=75):
    """Make a set of objects readable on this node, all or none: the arguments of one task."""

    req: int
    idents: list[bytes]
    sizes: list[int]
    nodes: list[list[int]]


class FetchedAll(Message, tag=76):
    """The answer to FetchAll: where they lie, each pinned once; or the ``cause`` why not, and the object to blame."""

    req: int
    idents: list[bytes]
    sizes: list[int]
    offsets: list[int]
    cause: FetchCause = ""
    why: str = ""
    bad: bytes = b""
    lost: list[int] = []
