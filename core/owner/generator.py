"""ObjectRefGenerator: references to the items of a task that is a generator, while it makes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hpc.core.ids import NIL
from hpc.core.idtypes import TaskID
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.strangers import check_refs
from hpc.core.owner.streams import END, item_id
from hpc.core.process.current import current

if TYPE_CHECKING:
    from hpc.core.owner.ports import Holder


_NO_WAY_BACK = (
    "nothing can be sent to a remote generator: it runs ahead in another process. hpc.cancel(generator) ends it"
)


class Peek:
    """Stands for the next item of a generator where references are waited for; it does not take it."""

    __slots__ = ("_id",)

    def __init__(self, ident: bytes) -> None:
        self._id = ident


class ObjectRefGenerator:
    """Iterates over references to the items of a generator, in order: each ``next`` waits until the item is there.

    Works with ``for`` and ``async for``, and in ``hpc.wait`` (ready when the next item is). If the generator raises,
    the reference after its last item raises when it is gotten, and then the iteration ends. Items that nobody has
    taken are freed when the generator object is dropped. It stays in the process that submitted the task.
    """

    def __init__(self, task: bytes, client: Holder) -> None:
        self._client = client
        self._end = ObjectRef[Any](task, client)
        self._task = task
        self._taken = 0

    def __iter__(self) -> ObjectRefGenerator:
        return self

    def __next__(self) -> ObjectRef[Any]:
        return self._next_sync(None)

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef[Any]:
        """The next reference; after ``timeout_s`` seconds without an item a nil reference."""
        self._check_session()
        ident = item_id(self._task, self._taken)
        ready = self._client.values.wait_for_entry(ident, timeout_s)
        if not ready:
            return ObjectRef(NIL, self._client)
        return self._take(ident)

    def _check_session(self) -> None:
        if self._client is not current.client:
            check_refs([self._end], current.client)  # the items of an earlier session are nowhere

    def _take(self, ident: bytes) -> ObjectRef[Any]:
        if not self._client.take_item(self._task, ident):
            raise StopIteration
        self._taken += 1
        return ObjectRef(ident, self._client)

    def __aiter__(self) -> ObjectRefGenerator:
        return self

    async def __anext__(self) -> ObjectRef[Any]:
        import asyncio

        self._check_session()
        ident = item_id(self._task, self._taken)
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = loop.create_future()

        def arrive() -> None:
            if not arrived.done():
                arrived.set_result(None)

        def ready() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(arrive)

        self._client.values.call_when_ready(ident, ready)
        await arrived
        try:
            return self._take(ident)
        except StopIteration:
            raise StopAsyncIteration from None

    def peek(self) -> Peek:
        """What stands for the next item where references are waited for."""
        return Peek(item_id(self._task, self._taken))

    def next_ready(self) -> bool:
        """Whether there is an item that ``next`` would return at once."""
        result = self._client.values.result_of(item_id(self._task, self._taken))
        return result is not None and result is not END

    def is_finished(self) -> bool:
        """Whether all items have been taken and no more will come."""
        return self._client.values.result_of(item_id(self._task, self._taken)) is END

    def completed(self) -> ObjectRef[Any]:
        """A reference that has a value (None) when the generator has ended. It raises if it was cancelled, or its
        worker ended; what its code raises is its last item."""
        return self._end

    def task_id(self) -> TaskID:
        """The id of the task."""
        return TaskID(self._task)

    def send(self, value: Any) -> Any:
        """Not there: its code runs elsewhere and ahead. Raises NotImplementedError, as do the five below."""
        raise NotImplementedError(_NO_WAY_BACK)

    def throw(self, value: Any, *more: Any) -> Any:
        """Not there."""
        raise NotImplementedError(_NO_WAY_BACK)

    def close(self) -> None:
        """Not there."""
        raise NotImplementedError(_NO_WAY_BACK)

    async def asend(self, value: Any) -> Any:
        """Not there."""
        raise NotImplementedError(_NO_WAY_BACK)

    async def athrow(self, value: Any, *more: Any) -> Any:
        """Not there."""
        raise NotImplementedError(_NO_WAY_BACK)

    async def aclose(self) -> None:
        """Not there."""
        raise NotImplementedError(_NO_WAY_BACK)

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._task.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "an ObjectRefGenerator cannot be passed to another process: its items are told to the process that "
            "submitted the task. Pass the references that it gives, or an actor's handle"
        )


class DynamicObjectRefGenerator:
    """The value of a task with ``num_returns="dynamic"``: its items' references, all there at once."""

    def __init__(self, refs: list[ObjectRef[Any]]) -> None:
        self._refs = refs

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, index: int) -> ObjectRef[Any]:
        return self._refs[index]
