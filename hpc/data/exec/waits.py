"""What an operator waits for when it starts nothing new."""

from __future__ import annotations

import enum


class Wait(enum.Enum):
    """The value is for people."""

    NOTHING = ""
    INPUT = "input"
    CONSUMER = "the consumer, or an input beside it"
    CONCURRENCY = "its own concurrency"
    CPU = "a CPU"
    GPU = "a GPU"
    NEW_ACTOR = "an actor to begin"
    BUSY_ACTORS = "its actors, which are busy"
    STORE = "room in the object store"
    HEAP = "room in memory"
    LISTING = "the listing of its source"
