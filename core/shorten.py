"""Exceptions that cannot be sent as they are, made such that they can: same class, without what is in the way.

An error goes to everyone who waits for its task, and to whoever needs that task's value in turn. So it travels in
messages, and its size has a limit. What is lost, because it is large or cannot be pickled, is said in its place.
"""

from __future__ import annotations

import pickle
from typing import Any

from hpc.core.instances import Rebuilt, args_of, fields_of, state_of
from hpc.core.serialization import dump_plain
from hpc.core.wire import MAX_VALUES_BYTES

#: What an error may take when it is sent, and its text (characters); a part that takes more than this is left out.
MAX_ERROR_BYTES = MAX_VALUES_BYTES
MAX_TEXT = 1 << 20
MAX_PART_BYTES = 64 << 10


def short_text(text: str, limit: int = MAX_TEXT) -> str:
    """The text; of a long one the beginning and the end."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return short_text(value, MAX_PART_BYTES)
    name = type(value).__name__
    try:
        data = dump_plain(value)
        pickle.loads(data)
    except Exception as error:
        return f"<{name}, left out: it cannot be sent ({type(error).__name__})>"
    if len(data) <= MAX_PART_BYTES:
        return value
    return f"<{name} of {len(data)} bytes, left out: an error may take {MAX_ERROR_BYTES >> 20} MiB in all>"


def sendable_error(error: BaseException) -> Rebuilt:
    """The exception without what is large in it or cannot be pickled, and made without its class's own code."""
    args = tuple([_sendable(part) for part in args_of(error)])
    fields = fields_of(error)
    if "exceptions" in fields and "message" in fields:
        fields["exceptions"] = [sendable_error(one) for one in fields["exceptions"]]
        args = (fields["message"], fields["exceptions"])
    else:
        fields = {name: _sendable(part) for name, part in fields.items()}
    return Rebuilt(type(error), args, fields, {name: _sendable(part) for name, part in state_of(error).items()})
