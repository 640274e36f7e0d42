"""Channels between two processes."""

from __future__ import annotations

from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(120, 128)


class ChannelOpen(Message, tag=120):
    """A process opens a channel, under a number of its own, to another one that listens under this name, or will."""

    number: int
    name: str


class ChannelData(Message, tag=121):
    """The message number ``seq`` from 0 on. ``opener``: the sender is the process that opened the channel."""

    number: int
    opener: bool
    seq: int
    data: bytes


class ChannelTaken(Message, tag=122):
    """What the sender has taken of the channel in all, as `owner.channels` counts; the first says that it has accepted
    the channel."""

    number: int
    opener: bool
    taken: int


class ChannelEnd(Message, tag=123):
    """The sender has closed the channel, or refuses it (``why``); it has sent so many messages."""

    number: int
    opener: bool
    sent: int
    why: str
