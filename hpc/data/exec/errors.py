"""How a run fails by itself, apart from what users' functions raise."""

from __future__ import annotations

from hpc.exceptions import ActorDiedError, NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError

#: What the runtime says where a process has ended.
CRASHES = (WorkerCrashedError, ActorDiedError, NodeDiedError, OutOfMemoryError)


class CutsChangedError(RuntimeError):
    """A task ran again and cut its rows into other blocks, after some of the first ones were used already."""


class BlockLostError(ObjectLostError):
    """A block was lost with the node where it lay, and nothing can make it again."""


def with_part(error: BaseException, part: str) -> BaseException:
    """An error of its kind that says with which part the process has ended each time; other errors as they are."""
    if not isinstance(error, CRASHES):
        return error
    made = type(error)(f"{part}: its process ended each time it was tried: {error}")
    vars(made).update(vars(error))
    made.__cause__ = error
    return made


class StalledError(RuntimeError):
    """Nothing has gone on for longer than the user allows."""


class ActorsFailedError(ActorDiedError):
    """Actors of a pool did not begin. What the constructor of the last one raised is its cause."""

    @classmethod
    def of(cls, pool: str, times: int, error: BaseException) -> ActorsFailedError:
        """The error of a pool of which so many actors failed, one after the other."""
        many = "an actor" if times == 1 else f"{times} actors in a row"
        made = cls(f"{pool}: {many} did not begin: {error}")
        made.cause = getattr(error, "cause", None)
        made.__cause__ = made.cause or error
        return made
