"""ObjectRef: a reference to a value that may not exist yet.

The garbage collector notices its end in any thread at any time, so ``__del__`` does nothing but append to a deque.
Taking a lock there deadlocks when the collector runs inside a locked region.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hpc.core.ids import owner_of
from hpc.core.idtypes import JobID, TaskID
from hpc.core.owner.strangers import check_refs
from hpc.core.process.current import current, need_client
from hpc.core.serialization import context

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

    from hpc.core.owner.ports import Holder

T = TypeVar("T")


class ObjectRef(Generic[T]):
    """A reference to an object. Get its value with ``hpc.get(ref)``, or ``await ref``."""

    __slots__ = ("__weakref__", "_client", "_id")

    def __init__(self, ident: bytes, client: Holder) -> None:
        self._id = ident
        self._client = client

    def __del__(self) -> None:
        try:
            self._client.dropped.append(self._id)
        except AttributeError:
            pass

    def binary(self) -> bytes:
        """The id, 20 bytes."""
        return self._id

    def hex(self) -> str:
        """The id in hexadecimal."""
        return self._id.hex()

    def is_nil(self) -> bool:
        """Whether this refers to nothing; never so for references that a program gets."""
        return not any(self._id)

    def task_id(self) -> TaskID:
        """The id of the task that makes the object; of several return values the first one's says it."""
        return TaskID(self._id)

    def job_id(self) -> JobID:
        """The id of the job in which the object is made."""
        return JobID.from_hex(self._client.registered.session)

    @classmethod
    def size(cls) -> int:
        """How many bytes an id has."""
        return TaskID.SIZE

    def call_site(self) -> str:
        """Empty: where references are made is not recorded."""
        return ""

    def tensor_transport(self) -> None:
        """None: values go through the object store alone."""

    def owner_address(self) -> str:
        """Where its owner is: ``node.process``."""
        return str(owner_of(self._id))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectRef) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"ObjectRef({self._id.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        found = context.found
        if found is None:
            self._client.values.hold_for_good(
                self._id
            )  # pickled by a program's own hand: nobody tells when the copy is gone
        else:
            found.append(self)
        return (rebuild, (self._id,))

    def __copy__(self) -> ObjectRef[T]:
        return self

    def __deepcopy__(self, _memo: Any) -> ObjectRef[T]:
        return self

    def future(self) -> concurrent.futures.Future[T]:
        """A concurrent.futures.Future of the value."""
        from concurrent.futures import Future

        future: Future[T] = Future()
        client = self._client
        check_refs([self], current.client)

        def ready() -> None:
            if not future.set_running_or_notify_cancel():
                return  # cancelled, as by asyncio.wait_for: nobody wants the value any more
            try:
                future.set_result(client.values.get([self], None)[0])
            except BaseException as error:
                future.set_exception(error)

        client.values.call_when_ready(self._id, ready)
        return future

    def as_future(self) -> asyncio.Future[T]:
        """A future of the running event loop. Older programs call it; ``asyncio.wrap_future(ref.future())`` is the
        same."""
        import asyncio

        return asyncio.wrap_future(self.future())

    def __await__(self) -> Generator[Any, None, T]:
        return self.as_future().__await__()


#: Its older name.
ObjectID = ObjectRef


def rebuild(ident: bytes) -> ObjectRef[Any]:
    """Unpickle a reference: from now on this process holds the object."""
    return need_client().values.adopt(ident)


__all__ = ["ObjectID", "ObjectRef", "current", "need_client", "rebuild"]
