"""References: a process that holds some and the owner of the objects, with their raylets."""

from __future__ import annotations

from hpc.core.wire.base import Message
from hpc.core.wire.values import Result

#: The tags of the messages of this file.
TAGS = range(80, 96)


class GetObject(Message, tag=80):
    """Tell me this object's value or places as soon as it has one. ``asker`` also names who asks."""

    ident: bytes


class ObjectValue(Message, tag=81):
    """The answer to GetObject."""

    ident: bytes
    result: Result


class ObjectMissing(Message, tag=82):
    """Owner's answer: there is no such object (any more)."""

    ident: bytes
    why: str


class CopyLost(Message, tag=83):
    """To an owner: the object's copies on these nodes could not be reached."""

    ident: bytes
    nodes: list[int]


class Locate(Message, tag=84):
    """To the owner of these objects: where are they? The answer's data is msgpack, for each (see `owner.places`): the
    kind of its value, its size, the nodes."""

    req: int
    idents: list[bytes]


class FreeValues(Message, tag=85):
    """To an owner: give up the values of these objects, whoever holds them (``internal.free``)."""

    idents: list[bytes]


class LocationAdded(Message, tag=86):
    """A raylet tells the owner that its node has a copy now."""

    ident: bytes
    node: int


class BorrowAdd(Message, tag=87):
    """This process holds references to objects that it does not own: its ``number``-th word of this kind."""

    idents: list[bytes]
    number: int


class BorrowDrop(Message, tag=88):
    """This process holds them no more."""

    idents: list[bytes]


class BorrowAcked(Message, tag=89):
    """The owners know that this node holds the objects (``dead``: their owner is gone). ``numbers`` are those of the
    words that are answered: an object may have been let go and taken again since."""

    idents: list[bytes]
    numbers: list[int]
    dead: bool = False


class HoldAdd(Message, tag=90):
    """Raylet to owner: a process of this node holds references to these objects (idempotent)."""

    idents: list[bytes]
    node: int


class HeadHolds(Message, tag=93):
    """A head that has taken the place of another tells the processes of a node which of their objects it holds: these.
    What the one before held beside them it holds no more."""

    idents: list[bytes]


class HoldDrop(Message, tag=91):
    """Raylet to owner: no process of this node holds them any more."""

    idents: list[bytes]
    node: int


class HoldAcked(Message, tag=92):
    """Owner to raylet: the holds are on record."""

    idents: list[bytes]
