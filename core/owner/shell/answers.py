"""Answers for libraries that wait for many: the thread that has read one tells of it, and nothing is loaded for
that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpc.core.owner.generator import ObjectRefGenerator
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.shell.callbacks import Prompt
from hpc.core.owner.streams import item_id
from hpc.core.process.current import current
from hpc.core.wire import INLINE, STORED


def when_ready(what: ObjectRef[Any] | ObjectRefGenerator, callback: Callable[..., None], *args: Any) -> None:
    """Call ``callback(*args)`` once when a reference has a value (or an error), or a generator its next item (or its
    end). The thread that has read the message calls it, or this one at once where the value is there.

    It must be quick, wait for nothing and raise nothing: other answers are read after it. It may be called in the
    middle of what this thread submits."""
    ident = what._id if isinstance(what, ObjectRef) else item_id(what._task, what._taken)
    what._client.values.call_when_ready(ident, Prompt(callback, *args))


def answer_of(ref: ObjectRef[Any]) -> bytes | bool | None:
    """What this process knows of a reference, without loading it. None: no value yet. False: an error. The pickled
    bytes of a small value. True: a value that is elsewhere, or large."""
    result = ref._client.values.result_of(ref._id)
    if result is None:
        return None
    return result.data if result.kind == INLINE else result.kind == STORED


def read_now() -> None:
    """Read what has come, without waiting, unless another thread is about that. A thread that submits without a pause
    calls it each 0.5 ms. Else the background thread reads for it, and the two wait for each other."""
    client = current.client
    if client is not None:
        client.look()


def send_now() -> None:
    """Have all calls that wait to be sent go out. Calls made in a callback of `when_ready` may wait 0.1 s otherwise."""
    client = current.client
    if client is not None:
        client.flush_waiting()
