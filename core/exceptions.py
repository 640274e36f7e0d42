"""The exceptions that users see, defined where the runtime can raise them. `hpc.exceptions` is their public name.

Names follow Ray's without the prefix; Ray's spelling is an alias in the public module.
"""

from __future__ import annotations

from typing import Any

from hpc.core.instances import args_of, fields_of, instance, links_of, set_links, state_of


class HpcError(Exception):
    """Base of all errors of the runtime."""


class TaskError(HpcError):
    """A task or an actor's method raised. The message holds the remote traceback; ``cause`` is the exception.

    What `get` raises is also an instance of the cause's own class (`as_instanceof_cause`).
    """

    def __init__(
        self, function_name: str, traceback_str: str, cause: BaseException, where: str = "", how: str = "raised:"
    ) -> None:
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self._hpc_parts = (function_name, traceback_str, cause, where, how)
        self.args = self._hpc_parts

    def __str__(self) -> str:
        name, text, _, where, how = self._hpc_parts
        return f"{name} ({where}) {how}\n{text}" if where else f"{name} {how}\n{text}"

    def as_instanceof_cause(self) -> TaskError:
        """This error as an instance of both TaskError and the cause's class, so that either can be caught. It has all
        that the cause holds, and behind it the exceptions that are behind the cause. Itself where the cause's class has
        no subclasses: the cause is its ``cause`` then."""
        cause = self.cause
        if isinstance(cause, BaseException):
            set_links(self, links_of(cause))
        if issubclass(TaskError, type(cause)):
            return self
        try:
            state = {**vars(self), **state_of(cause), "cause": cause, "_hpc_parts": self._hpc_parts}
            error = instance(_both_classes(type(cause)), args_of(cause), fields_of(cause), state)
            set_links(error, links_of(cause))
        except Exception:  # the class's own code is asked, and may raise anything
            return self
        assert isinstance(error, TaskError)
        return error


def _both_classes(kind: type[BaseException]) -> type[BaseException]:
    def reduce(self: TaskError, *protocol: int) -> tuple[Any, ...]:
        return _rebuild_both, self._hpc_parts

    namespace: dict[str, Any] = {
        "__str__": TaskError.__str__,
        "__module__": __name__,
        "__reduce__": reduce,
        "__reduce_ex__": reduce,
    }
    return type(f"TaskError({kind.__name__})", (TaskError, kind), namespace)


def _rebuild_both(name: str, text: str, cause: BaseException, where: str, how: str) -> BaseException:
    return TaskError(name, text, cause, where, how).as_instanceof_cause()


class UnserializableException(HpcError):
    """Stands for an exception that could not be pickled, or not be unpickled here. The error that was raised has the
    text of the traceback."""


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


class GangError(ActorDiedError):
    """An actor of a gang has ended, and the gang with it: all its unfinished and later calls raise this. ``rank`` is
    the place of that actor among them (-1: the gang was ended as a whole), the text says where it was and why."""

    rank = -1


class ActorUnavailableError(ActorError):
    """The actor cannot be reached at the moment; it may come back."""


class ActorUnschedulableError(HpcError):
    """The actor cannot be placed."""


class WorkerCrashedError(HpcError):
    """The worker process ended while it ran the task."""


class NodeDiedError(HpcError):
    """The node is gone."""


class NoStateError(HpcError):
    """A saved state cannot be written or read; the text says why, and what to do."""


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


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
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


class ChannelEnded(HpcError):
    """Nothing more can be read from a channel, or sent: it was closed or refused. Or (``lost``) the process at its
    other end has ended, and what that had sent last may be missing."""

    def __init__(self, text: str, lost: bool = False) -> None:
        super().__init__(text, lost)
        self.lost = lost

    def __str__(self) -> str:
        return str(self.args[0])


class DeadlockError(HpcError, RuntimeError):
    """A method of an actor would have waited for ever in `get` or `wait`. It waited for a call to the same actor that
    cannot run while the method waits. The message says which, and what to do."""


class TaskCancelledError(HpcError):
    """The task was cancelled."""


class GeneratorChangedError(HpcError):
    """A generator ran again, because its worker or node had died, and gave other items than before."""


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


class LocalRayletDiedError(HpcError):
    """The raylet of this node has ended."""


class SessionLostError(LocalRayletDiedError, ConnectionError):
    """The connection to the session is gone: its raylet on this node has ended."""


class SessionStartError(HpcError, RuntimeError):
    """The session did not come up; the message says which node, and why."""


class SystemFailure(HpcError):
    """The runtime could not do what it should: a value cannot be loaded where it is needed, for the reason that is the
    error's ``__cause__``. Ray's name: RaySystemError."""


class OutOfDiskError(HpcError):
    """The disk to which objects are spilled is full."""


class ActorAlreadyExistsError(ValueError, HpcError):
    """There is an actor of this name in the namespace."""


class ActorHandleNotFoundError(ValueError, HpcError):
    """The handle is of an actor of an earlier session."""


class StreamingGeneratorReplayInconsistentError(SystemFailure):
    """A generator that ran again gave other items than before."""


# Ray's classes for what does not happen here: programs name them in `except` clauses.


class AsyncioActorExit(HpcError):
    """Never raised here: `exit_actor` ends async actors as it ends others."""


class AuthenticationError(HpcError):
    """Never raised here: who may not join a session cannot speak to it."""


class CrossLanguageError(HpcError):
    """Never raised here: all workers are Python's."""


class ObjectRefStreamEndOfStreamError(HpcError):
    """Never raised here: a generator's end is StopIteration."""


class OufOfBandObjectRefSerializationException(HpcError):  # the spelling is Ray's
    """Never raised here: a reference that is pickled by hand is a TypeError."""


class PlasmaObjectNotAvailable(HpcError):
    """Never raised here: `get` waits, or raises GetTimeoutError."""


class RpcError(HpcError):
    """Never raised here: messages between processes have no errors of their own."""


class UserCodeException(HpcError):
    """A function of a user failed on rows of a dataset; the cause is its error."""


class RayChannelError(SystemFailure):
    """Never raised here: there are no compiled graphs."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """Never raised here: there are no compiled graphs."""


class RayCgraphCapacityExceeded(SystemFailure):
    """Never raised here: there are no compiled graphs."""


class RayDirectTransportError(SystemFailure):
    """Never raised here: there is no transport of tensors between GPUs."""


class ActorExit(SystemExit):
    """Raised by ``exit_actor``, so that the code that called it ends. The actor ends also where this is caught."""
