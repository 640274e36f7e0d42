"""Exceptions that are too large for a message, made small: same class, same shape, without what is large in them.

An error goes to everyone who waits for its task, and to whoever needs that one's value in turn, so it travels in
messages and its size has a limit. What is lost is said in its place.
"""

from __future__ import annotations

import copy
from typing import Any

import cloudpickle

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


def _short_part(value: Any) -> Any:
    if isinstance(value, str):
        return short_text(value, MAX_PART_BYTES)
    size = len(cloudpickle.dumps(value))
    if size <= MAX_PART_BYTES:
        return value
    return f"<{type(value).__name__} of {size} bytes, left out: an error may take {MAX_ERROR_BYTES >> 20} MiB in all>"


def short_error(error: BaseException) -> BaseException:
    """A copy of the exception whose large parts are replaced by what they were. Raises whatever its parts raise."""
    short = copy.copy(error)
    short.args = tuple(_short_part(part) for part in error.args)
    for name, part in vars(error).items():
        setattr(short, name, _short_part(part))
    return short
