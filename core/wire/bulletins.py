"""Bulletins: processes tell their raylet how the runs of their libraries stand, and tell more to those who ask."""

from __future__ import annotations

import msgspec

from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(224, 232)
#: A brief and a detail are no larger.
MAX_BRIEF_BYTES, MAX_DETAIL_BYTES = 4 << 10, 64 << 10


class Bulletin(msgspec.Struct, array_like=True, gc=False):
    """How one run stands. ``number`` is its own in its process. ``detail``: b"" where that is to stay as it was.
    ``over``: no other comes after it."""

    number: int
    brief: bytes
    detail: bytes = b""
    over: bool = False


class Bulletins(Message, tag=224):
    """A process tells its raylet of its runs, those that have changed since it told last. Of ``dropped`` runs it has
    told nothing, for want of room."""

    told: list[Bulletin]
    dropped: int = 0


class BulletinQuery(Message, tag=225):
    """To a raylet: the detail that run ``number`` of its node's process ``proc`` has told last. To that process:
    ``what`` the run knows now, as ``params`` say. The Answer's data is msgpack of the library's own."""

    req: int
    proc: int
    number: int
    what: str = ""
    params: dict[str, str] = {}
