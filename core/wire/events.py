"""What happened: raylets and owners tell it to the head, and the head tells it to those who ask."""

from __future__ import annotations

from hpc.core.events.notes import Note
from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(216, 224)


class Happened(Message, tag=216):
    """To the head: what happened at a node or to what a process owns. ``lost`` more had no room at who tells it."""

    notes: list[Note]
    lost: int = 0


class EventQuery(Message, tag=217):
    """Ask the head for events: the first ``limit`` after number ``since``, or the last ones (``since`` below 0). The
    Answer is an EventPage of core/events/rows."""

    req: int
    since: int = -1
    limit: int = 100
