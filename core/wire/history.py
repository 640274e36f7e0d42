"""What was: processes tell their raylet what they ran and which of their actors have ended, and raylets tell others."""

from __future__ import annotations

from hpc.core.events.rows import ActorRow
from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(208, 216)


class Ran(Message, tag=208):
    """A worker tells its raylet what it ran: ``count`` events, packed as core/events/rows has them. ``lost`` more came
    before them."""

    data: bytes
    count: int
    lost: int = 0


class HistoryQuery(Message, tag=209):
    """To a raylet: the newest batches of its node's history, without those up to number ``since`` and from ``before``
    on (0: all). The Answer is a Page of core/events/rows; it has at most ``size`` bytes, or one batch."""

    req: int
    since: int = 0
    before: int = 0
    size: int = 4 << 20


class ActorsEnded(Message, tag=210):
    """An owner tells its raylet of actors of its that have ended, and that it has forgotten. ``lost`` more had no
    room."""

    rows: list[ActorRow]
    lost: int = 0
