"""Errors of users' code on their way: from the worker where they were raised to whoever gets the value.

The text of the traceback and the exception itself travel side by side. The exception may be of a class that the other
side cannot import, and the text is shown all the same. A task that cannot run because its argument failed passes the
failure on with its own name (`hpc.core.passing`).
"""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import msgspec

from hpc.core import exceptions
from hpc.core.exceptions import (
    ActorError,
    GangError,
    HpcError,
    ObjectReconstructionFailedError,
    TaskCancelledError,
    TaskError,
    UnserializableException,
)
from hpc.core.instances import Rebuilt, args_of, fields_of, has_own_way, link, links_of, state_of
from hpc.core.passing import names_and_failure
from hpc.core.serializability import reducers
from hpc.core.serialization import dump_plain
from hpc.core.shorten import MAX_ERROR_BYTES, MAX_PART_BYTES, sendable_error, short_text
from hpc.core.wire import ERROR, Result, system_error

DID_NOT_RUN = "did not run, because an argument of it could not be had:"
#: The outcome of what was cancelled before its code began.
NEVER_BEGAN = system_error("TaskCancelledError", "it was cancelled before it started")
#: Of the exceptions behind one (its ``__cause__`` or ``__context__``, that one's, and so on) so many travel with it.
MAX_BEHIND = 8


class Failure(msgspec.Struct, array_like=True):
    """A user's exception: the name of the task, the text of the traceback, where it ran, and the pickled exception.
    Those behind it follow, each with whether it is the ``__cause__`` (or the ``__context__``) of the one before."""

    name: str
    text: str
    where: str
    cause: bytes
    behind: Sequence[tuple[bool, bytes]] = ()


def pack_error(name: str, error: BaseException, where: str) -> bytes:
    """An exception that was raised by a user's code, for a result of kind ERROR. Never fails: what cannot be sent of
    the exception is replaced by a word about it, and if nothing can, it is an UnserializableException."""
    text = _text_of(error)
    cause = pickled_error(error.cause if isinstance(error, TaskError) else error)
    return msgspec.msgpack.encode(Failure(name, text, where, cause, _behind(error, MAX_ERROR_BYTES - len(cause))))


def cancelled_while_it_ran(name: str, error: BaseException, where: str) -> Result:
    """The outcome of a task whose code was ended by this exception because it was cancelled."""
    what = TaskCancelledError(f"task {name}: it was cancelled").with_traceback(_in_its_code(error.__traceback__))
    text = _text_of(what)
    return system_error("TaskCancelledError", "it was cancelled", task=name, text=text, where=where)


def _in_its_code(tb: TracebackType | None) -> TracebackType | None:
    """The traceback without the runtime's own frames at its end, where it was raised on behalf of others."""
    frames: list[TracebackType] = []
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    while frames and str(frames[-1].tb_frame.f_globals.get("__name__", "")).startswith("hpc.core."):
        frames.pop()
    for one in reversed(frames):
        tb = TracebackType(tb, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return tb


def show_error(name: str, error: BaseException) -> None:
    """Print the error where it was raised: for one that ends an actor, whose callers may never come."""
    print(f"{name} raised:\n{_text_of(error)}", file=sys.stderr, flush=True)


def _text_of(error: BaseException) -> str:
    try:
        tb = error.__traceback__
        while tb is not None and "/core/worker/" in tb.tb_frame.f_code.co_filename.replace("\\", "/"):
            tb = tb.tb_next
        return traceback_text(error, tb or error.__traceback__)
    except Exception:
        return traceback_text(error, None)


def traceback_text(error: BaseException, tb: TracebackType | None) -> str:
    """The text of an exception and of those behind it, from this frame on; of a long one the beginning and the end.
    Never fails."""
    try:
        text = "".join(traceback.format_exception(type(error), error, tb))
    except Exception:  # the exception's own code takes part, and may raise anything
        text = f"{type(error).__module__}.{type(error).__qualname__} (its text cannot be made)\n"
    return short_text(text)


def said(error: BaseException) -> str:
    """The class of an exception and its words, on few lines. Never fails."""
    try:
        words = str(error)
    except Exception:
        words = "(its text cannot be made)"
    return short_text(f"{type(error).__name__}: {words}" if words else type(error).__name__, MAX_PART_BYTES)


def pickled_error(cause: BaseException) -> bytes:
    """The exception for `unpickled_error`; b"" where nothing can be sent of it. What is large in it, or cannot be
    pickled, is replaced by a word about it. Never fails."""
    for make in (_whole, _same, sendable_error):
        try:
            data = dump_plain(make(cause))
            same = type(pickle.loads(data)).__name__ == type(cause).__name__
        except (Exception, SystemExit):  # its class has a part in this, and may do anything
            continue
        if same and len(data) <= MAX_ERROR_BYTES:
            return data
    return b""


def _behind(error: BaseException, room: int) -> list[tuple[bool, bytes]]:
    """The exceptions that a traceback shows before this one, pickled; they may be linked in a circle."""
    found: list[tuple[bool, bytes]] = []
    seen = {id(error)}
    while len(found) < MAX_BEHIND:
        links = links_of(error)
        next_one = links.cause or (None if links.suppress else links.context)
        if next_one is None or id(next_one) in seen:
            break
        seen.add(id(next_one))
        data = pickled_error(next_one)
        room -= len(data)
        if room < 0:
            break
        found.append((next_one is links.cause, data))
        error = next_one
    return found


def _whole(error: BaseException) -> Any:
    kind = type(error)
    if kind in reducers or has_own_way(kind):
        return error
    return Rebuilt(kind, args_of(error), fields_of(error), state_of(error))


def _same(error: BaseException) -> Any:
    return error


def error_of(result: Result) -> BaseException:
    """The exception of a result of kind ERROR or SYSTEM, as `get` raises it."""
    names, data = names_and_failure(result.data)
    error: HpcError = _raised(data) if result.kind == ERROR else from_system(data)
    for name in names:
        cause = error.cause if isinstance(error, TaskError) else error
        error = TaskError(name, str(error), cause, how=DID_NOT_RUN)
    return error.as_instanceof_cause() if isinstance(error, TaskError) else error


def text_of(result: Result) -> tuple[str, str]:
    """The name of the task that failed with this result of kind ERROR, and the text; nothing is unpickled for it."""
    names, data = names_and_failure(result.data)
    failure = msgspec.msgpack.decode(data, type=Failure)
    text = f"{failure.name} raised:\n{failure.text.rstrip()}"
    for name in names:
        text = f"{name} {DID_NOT_RUN}\n{text}"
    return failure.name, text


def _raised(data: bytes) -> TaskError:
    failure = msgspec.msgpack.decode(data, type=Failure)
    cause = error = unpickled_error(failure.cause)
    for is_cause, packed in failure.behind:
        if not isinstance(error, BaseException):
            break  # its class has a way of its own to be pickled
        error = link(error, unpickled_error(packed), is_cause)
    return TaskError(failure.name, failure.text, cause, failure.where)


def unpickled_error(data: bytes) -> BaseException:
    """What `pickled_error` was given; an UnserializableException where this process cannot make it."""
    try:
        error: BaseException = pickle.loads(data)
        return error
    except Exception as why:
        return UnserializableException(
            f"the exception could not be {'unpickled here: ' + said(why) if data else 'pickled'}"
        )


_BY_NAME: dict[str, type[HpcError]] = {
    name: kind for name, kind in vars(exceptions).items() if isinstance(kind, type) and issubclass(kind, HpcError)
}


def from_system(data: bytes) -> HpcError:
    """The exception for a result of kind SYSTEM."""
    fields: dict[str, Any] = msgspec.msgpack.decode(data)
    kind = _BY_NAME.get(fields.get("type", ""), HpcError)
    text = str(fields.get("why", ""))
    task, actor, ident = fields.get("task"), fields.get("actor"), fields.get("ident")
    if task:
        text = f"task {task}: {text}"
    elif actor:
        text = f"actor {actor}: {text}"
    elif ident:
        text = f"object {ident}: {text}"
    cause = None
    if "cause" in fields:
        how, packed = msgspec.msgpack.decode(fields["cause"])
        cause = error_of(Result(how, packed))
        text = f"{text}: {cause}"
    error = kind(text)
    if "text" in fields:
        return TaskError(str(task), fields["text"], error, fields["where"])
    if isinstance(error, ActorError):
        error.actor_id, error.cause = actor, cause
        if isinstance(error, GangError):
            error.rank = int(fields.get("rank", -1))
    elif isinstance(error, ObjectReconstructionFailedError):
        error.reason, error.reason_message = fields.get("reason", ""), str(fields.get("why", ""))
    return error
