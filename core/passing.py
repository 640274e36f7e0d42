"""Failures that pass through: a task whose argument failed fails too, and says its own name first.

Owners pass them on without looking inside. A name stands before the data of the result that failed, and what is there
already stays as it is.
"""

from __future__ import annotations

import struct

from hpc.core.wire import Result

_HEAD = struct.Struct("<BH")
#: Begins a name; no byte of msgpack.
_MARK = 0xC1
#: Longer failures are passed on without further names, so that those who share one do not each have a copy.
MAX_PASSED_BYTES = 32 << 10
MAX_NAME_BYTES = 256


def passed_on(result: Result, name: str) -> Result:
    """The failure of a task that did not run because of this failure of an argument."""
    if len(result.data) > MAX_PASSED_BYTES:
        return result
    head = name.encode()[:MAX_NAME_BYTES]
    return Result(result.kind, _HEAD.pack(_MARK, len(head)) + head + result.data)


def names_and_failure(data: bytes) -> tuple[list[str], bytes]:
    """The names of the tasks through which it passed, the first one first, and the failure itself."""
    names: list[str] = []
    while data[:1] == b"\xc1":
        end = _HEAD.size + _HEAD.unpack_from(data)[1]
        names.append(bytes(data[_HEAD.size : end]).decode(errors="replace"))
        data = data[end:]
    return names[::-1], data
