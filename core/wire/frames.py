"""A frame: a header of 20 bytes (length of the body, destination, source) and a body of messages.

Raylets route frames by the header and do not decode bodies that are not for them. A body is a msgpack array of
messages. JSON and pickle were rejected: JSON cannot hold bytes, and neither head nor raylet may ever unpickle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Union

import msgspec

from hpc.core.ids import Address
from hpc.core.wire import (
    actors,
    bulk,
    bulletins,
    channels,
    events,
    groups,
    history,
    holding,
    leases,
    looking,
    metrics,
    names,
    nodes,
    process,
    store,
    tasks,
    values,
)
from hpc.core.wire.base import HEADER, Message

CONVERSATIONS = (
    values, process, leases, tasks, store, holding, bulk, actors, channels, nodes, names, groups, looking,
    history, bulletins, metrics, events,
)  # fmt: skip


def messages_of(conversation: Any) -> list[type[Message]]:
    """The messages that are declared in the file of a conversation, in its order."""
    return [
        one
        for one in vars(conversation).values()
        if isinstance(one, type) and issubclass(one, Message) and one.__module__ == conversation.__name__
    ]


if TYPE_CHECKING:
    AnyMessage = Message
else:
    # msgspec refuses two messages with one tag here.
    AnyMessage = Union[tuple(one for conversation in CONVERSATIONS for one in messages_of(conversation))]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[AnyMessage])

encode_body = _encoder.encode
decode_body = _decoder.decode
DecodeError = msgspec.DecodeError


def encode_frame(dst: Address, src: Address, messages: list[Message]) -> bytes:
    """One frame with these messages, ready to be written to a stream."""
    body = encode_body(messages)
    return HEADER.pack(len(body), dst[0], dst[1], src[0], src[1]) + body
