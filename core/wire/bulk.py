"""Objects between nodes: raylet and raylet, and the objects of a node that leaves."""

from __future__ import annotations

from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(96, 112)


class Pull(Message, tag=96):
    """Send me the object in chunks, from ``offset`` on; at most ``window`` chunks without an answer. ``whole``: only a
    node that has all of it may serve this, and must."""

    ident: bytes
    offset: int
    window: int
    whole: bool = False


class Chunk(Message, tag=97):
    """A piece of an object."""

    ident: bytes
    offset: int
    data: memoryview
    total: int


class PullFailed(Message, tag=98):
    """This node does not have the object."""

    ident: bytes
    why: str


class PullBusy(Message, tag=99):
    """This node serves the object to enough others at the moment; ``others`` have it, or are getting it."""

    ident: bytes
    others: list[int]


class PlainAsk(Message, tag=100):
    """Where do you hand out the bytes of objects unencrypted? Of use where the user switched bulk encryption off."""


class PlainOffer(Message, tag=101):
    """At this address, to who shows this token, once and soon; the port answers with ``answer``. Port 0: nowhere."""

    host: str
    port: int
    token: bytes
    answer: bytes


class Leaving(Message, tag=102):
    """A raylet whose node leaves asks an owner: which of these objects, which lie here, have to be elsewhere before?"""

    idents: list[bytes]


class StillWanted(Message, tag=103):
    """The owner's answer: these, as far as it has heard of them. ``nodes`` has all their places that it knows of;
    ``again`` says whether a task would make them anew."""

    idents: list[bytes]
    nodes: list[list[int]]
    again: list[bool]


class Keep(Message, tag=104):
    """To another raylet: take this object from one of ``nodes``, and keep it as if it had been made there."""

    ident: bytes
    size: int
    nodes: list[int]


class Kept(Message, tag=105):
    """The answer to Keep: it is there, or not, and ``why``. ``never``: nothing else is taken there, either."""

    ident: bytes
    why: str = ""
    never: bool = False
