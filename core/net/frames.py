"""Packing messages into bodies and frames that are not larger than the wire allows.

What belongs together travels together, until it is too large for one frame: then it is halved until each part fits.
Messages are never cut. A single one above the limit has no way to its receiver, so its sender says instead what became
of it (``instead``). The machines are made so that this does not happen (`MAX_VALUES_BYTES`), and the simulator holds
them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hpc.core.ids import Address
from hpc.core.wire import (
    HEADER,
    MAX_FRAME_BYTES,
    Answer,
    Done,
    Message,
    ObjectMissing,
    ObjectValue,
    StateAnswer,
    Yielded,
    encode_body,
    system_error,
)

#: What is sent in place of a message that is too large: another message, or nothing.
Instead = Callable[[Message, int], Message | None]
#: What a StateAnswer has beside its rows.
ANSWER_BYTES = 64


def answer_rows(req: int, rows: list[dict[str, Any]], limit: int = MAX_FRAME_BYTES) -> StateAnswer:
    """The answer to a StateQuery: as many of the rows as a message can hold, the first ones."""
    data = msgspec.msgpack.encode(rows)
    kept = rows
    while len(data) > limit - ANSWER_BYTES:
        kept = kept[: len(kept) // 2]
        data = msgspec.msgpack.encode(kept)
    return StateAnswer(req, data, len(rows) - len(kept))


def why_too_large(msg: Message, size: int) -> str:
    """For people: what could not be sent, and what to do."""
    return (
        f"a message ({type(msg).__name__}) of {size} bytes is above the {MAX_FRAME_BYTES >> 20} MiB that one may have: "
        "put what is large into the object store with hpc.put() and pass the reference"
    )


def say_instead(msg: Message, size: int) -> Message | None:
    """An answer that is too large becomes one that says so; anything else becomes nothing."""
    why = why_too_large(msg, size)
    error = system_error("HpcError", why)
    if isinstance(msg, Answer):
        return Answer(msg.req, False, why=why)
    if isinstance(msg, Done):
        return Done(msg.task, msg.attempt, [error], msg.run_us, False, msg.exiting)
    if isinstance(msg, Yielded):
        return Yielded(msg.task, msg.attempt, msg.index, error)
    return ObjectMissing(msg.ident, why) if isinstance(msg, ObjectValue) else None


def log_instead(error: Callable[[str, str], None]) -> Instead:
    """`say_instead` of raylets and the head: their logs have it too, by the logger's ``error``."""

    def instead(msg: Message, size: int) -> Message | None:
        error("%s", why_too_large(msg, size))
        return say_instead(msg, size)

    return instead


def encode_bodies(messages: Sequence[Message], instead: Instead, limit: int = MAX_FRAME_BYTES) -> list[bytes]:
    """The messages in as few bodies as the limit allows, in their order."""
    body = encode_body(messages)
    if len(body) <= limit:
        return [body]
    size = len(body)
    del body  # the parts take as much again
    if len(messages) == 1:
        other = instead(messages[0], size)
        return [] if other is None else encode_bodies([other], lambda msg, size: None, limit)
    half = len(messages) // 2
    return encode_bodies(messages[:half], instead, limit) + encode_bodies(messages[half:], instead, limit)


def encode_frames(dst: Address, src: Address, messages: Sequence[Message], instead: Instead) -> list[bytes]:
    """The messages in as few frames as the limit allows, in their order, ready to be written to a stream."""
    bodies = encode_bodies(messages, instead)
    return [HEADER.pack(len(body), dst[0], dst[1], src[0], src[1]) + body for body in bodies]
