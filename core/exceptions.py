"""The exceptions that users see, defined where the runtime can raise them. `hpc.exceptions` is their public name.

Names follow Ray's without the prefix; Ray's spelling is an alias in the public module.
"""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import cloudpickle
import msgspec

from hpc.core.shorten import MAX_ERROR_BYTES, short_error, short_text
from hpc.core.wire import ERROR


class HpcError(Exception):
    """Base of all errors of the runtime."""


class TaskError(HpcError):
    """A task or an actor's method raised. The message holds the remote traceback; ``cause`` is the exception.

    What `get` raises is also an instance of the cause's own class (`as_instanceof_cause`).
    """

    def __init__(self, function_name: str, traceback_str: str, cause: BaseException, where: str = "") -> None:
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self.where = where
        self.args = (function_name, traceback_str, cause, where)

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.function_name}{place} raised:\n{self.traceback_str}"

    def as_instanceof_cause(self) -> BaseException:
        """This error as an instance of both TaskError and the cause's class, so that either can be caught."""
        kind = type(self.cause)
        if isinstance(self.cause, HpcError):
            return self.cause if not isinstance(self.cause, TaskError) else self.cause.as_instanceof_cause()
        if issubclass(TaskError, kind):
            return self
        try:
            both = _both_classes(kind)
            error: BaseException = both.__new__(both)
            error.__dict__.update(getattr(self.cause, "__dict__", {}))
            error.__dict__.update(self.__dict__)
            error.args = self.cause.args
            error.__cause__ = self.cause
            return error
        except TypeError:
            return self


def _both_classes(kind: type[BaseException]) -> type[BaseException]:
    namespace: dict[str, Any] = {
        "__str__": TaskError.__str__,
        "__module__": __name__,
        "__reduce__": lambda self: (
            _rebuild_both,
            (self.function_name, self.traceback_str, self.cause, self.where),
        ),
    }
    return type(f"TaskError({kind.__name__})", (TaskError, kind), namespace)


def _rebuild_both(name: str, text: str, cause: BaseException, where: str) -> BaseException:
    return TaskError(name, text, cause, where).as_instanceof_cause()


class ActorError(HpcError):
    """Base of errors of actors. ``actor_id`` names it where that is known."""

    actor_id: str | None = None
    #: What its constructor raised, or an argument of that held, where the actor died of it.
    cause: BaseException | None = None
    preempted = False

    @property
    def actor_init_failed(self) -> bool:
        """Whether the actor died in its constructor by an exception."""
        return self.cause is not None


class ActorDiedError(ActorError):
    """The actor is dead: its process ended, its constructor raised, or it was killed. The message says which."""


class ActorUnavailableError(ActorError):
    """The actor cannot be reached at the moment; it may come back."""


class ActorUnschedulableError(ActorError):
    """The actor cannot be placed."""


class WorkerCrashedError(HpcError):
    """The worker process ended while it ran the task."""


class NodeDiedError(HpcError):
    """The node is gone."""


class OutOfMemoryError(HpcError):
    """The task was ended because its node ran out of memory."""


class ObjectStoreFullError(HpcError):
    """The node's object store has no room."""


class ObjectLostError(HpcError):
    """The object's value cannot be had any more."""


class CopiesLost(ObjectLostError):
    """Inside the runtime: an object could not be read at the places that were known (``nodes``)."""

    def __init__(self, text: str, nodes: list[int], ident: bytes = b"") -> None:
        super().__init__(text)
        self.nodes = nodes
        self.ident = ident


class ReferenceCountingAssertionError(ObjectLostError):
    """The object was freed before this use of it."""


class ObjectFetchTimedOutError(ObjectLostError):
    """The object did not arrive in time."""


class OwnerDiedError(ObjectLostError):
    """The process that owns the object has died, and the object with it."""


class ObjectReconstructionFailedError(ObjectLostError):
    """The object was lost and could not be computed again. ``reason`` is the name of the reason (Ray's, where it has
    one), and ``reason_message`` says it."""

    reason: str = ""
    reason_message: str = ""


class ObjectFreedError(ObjectLostError):
    """The object was freed by hand."""


class GetTimeoutError(HpcError, TimeoutError):
    """`get` did not get all values in time."""


class TaskCancelledError(HpcError):
    """The task was cancelled."""


class TaskUnschedulableError(HpcError):
    """The task cannot be placed."""


class TaskPlacementGroupRemoved(HpcError):
    """The placement group in which the task ran, or was to run, was removed."""


class ActorPlacementGroupRemoved(HpcError):
    """The placement group in which the actor was to run was removed."""


class PendingCallsLimitExceeded(HpcError):
    """The actor has max_pending_calls calls waiting."""


class RuntimeEnvSetupError(HpcError):
    """The runtime environment could not be made."""


class SessionLostError(HpcError, ConnectionError):
    """The connection to the session is gone: its raylet on this node has ended."""


class SessionStartError(HpcError, RuntimeError):
    """The session did not come up; the message says which node, and why."""


_BY_NAME: dict[str, type[HpcError]] = {
    kind.__name__: kind for kind in list(globals().values()) if isinstance(kind, type) and issubclass(kind, HpcError)
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
        cause = unpack_error(packed) if how == ERROR else from_system(packed)
        text = f"{text}: {cause}"
    error = kind(text)
    if isinstance(error, ActorError):
        error.actor_id, error.cause = actor, cause
    elif isinstance(error, ObjectReconstructionFailedError):
        error.reason, error.reason_message = fields.get("reason", ""), str(fields.get("why", ""))
    return error


def pack_error(name: str, error: BaseException, where: str) -> bytes:
    """A pickled TaskError for an exception that was raised by a user's code. Never fails: an exception that cannot
    be pickled is replaced by one that shows its text, and what is too large in one by a word about it."""
    tb = error.__traceback__
    while tb is not None and "/core/worker/" in tb.tb_frame.f_code.co_filename.replace("\\", "/"):
        tb = tb.tb_next
    text = short_text("".join(traceback.format_exception(type(error), error, tb or error.__traceback__)))
    for make in (_same, short_error, _shown):
        try:
            cause = make(error)
            wrapped: BaseException = (
                cause
                if isinstance(cause, HpcError) and not isinstance(cause, TaskError)
                else (TaskError(name, text, cause, where))
            )
            wrapped.__traceback__ = None
            data: bytes = cloudpickle.dumps(wrapped)
            pickle.loads(data)
        except Exception:
            continue
        if len(data) <= MAX_ERROR_BYTES:
            return data
    return cloudpickle.dumps(TaskError(name, text, RuntimeError(str(type(error))), where))


def _same(error: BaseException) -> BaseException:
    return error


def _shown(error: BaseException) -> RuntimeError:
    """What stands for an exception that cannot be sent."""
    return RuntimeError(short_text(f"{type(error).__name__}: {error}") + " (it could not be pickled)")


def unpack_error(data: bytes) -> BaseException:
    """The exception of a result of kind ERROR, as `get` raises it."""
    try:
        error = pickle.loads(data)
    except Exception as failure:
        return HpcError(f"a task raised an exception that cannot be unpickled here: {failure!r}")
    if isinstance(error, TaskError):
        return error.as_instanceof_cause()
    return error if isinstance(error, BaseException) else HpcError(repr(error))
