"""Queue: a first-in-first-out queue in an actor, for any number of processes at both ends.

The actor's methods are coroutines, so that thousands of them may wait in it at the same time. Items pass through the
actor: large ones by the object store.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Iterable
from typing import Any

import hpc
from hpc.exceptions import HpcError

#: Waiting calls at the same time; far above the default, or those who wait to get keep out those who put.
MAX_WAITING = 1_000_000


class Empty(queue.Empty):
    """Nothing is in the queue."""


class Full(queue.Full):
    """The queue has ``maxsize`` items."""


class Queue:
    """A queue that can be passed to tasks and actors; all copies are the same queue.

    maxsize: how many items it takes before `put` waits; 0 (or less): any number.
    actor_options: options of the actor that holds the items, as for ``.options()``: ``{"num_cpus": 1}``.
    The queue ends with its last copy, or by `shutdown`.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        if isinstance(maxsize, bool) or not isinstance(maxsize, int):
            raise TypeError(f"maxsize must be an integer, not {type(maxsize).__name__}")
        self.maxsize = maxsize
        options = {"num_cpus": 0, "max_concurrency": MAX_WAITING, **(actor_options or {})}
        self.actor = self._make(options)

    def _make(self, options: dict[str, Any]) -> Any:
        return hpc.remote(_Items).options(**options).remote(self.maxsize)

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many items are in the queue now."""
        return int(hpc.get(self._there().qsize.remote()))

    def qsize(self) -> int:
        """The same as `size`."""
        return self.size()

    def empty(self) -> bool:
        """Whether there is no item in the queue now."""
        return self.size() == 0

    def full(self) -> bool:
        """Whether the queue has ``maxsize`` items now."""
        return self.maxsize > 0 and self.size() >= self.maxsize

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Append an item. Waits while the queue is full, at most ``timeout`` seconds; then raises Full, and without
        ``block`` at once. Raises ValueError for a negative timeout."""
        _answer(self._there().put.remote(item, _wait_s(block, timeout)))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the first item. Waits for one, at most ``timeout`` seconds; then raises Empty, and without ``block`` at
        once. Raises ValueError for a negative timeout."""
        return _answer(self._there().get.remote(_wait_s(block, timeout)))

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """`put` for coroutines. When it is cancelled, the item is not put later."""
        await _answer_async(self._there().put.remote(item, _wait_s(block, timeout)))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """`get` for coroutines. When it is cancelled, it takes no item later."""
        return await _answer_async(self._there().get.remote(_wait_s(block, timeout)))

    def put_nowait(self, item: Any) -> None:
        """``put(item, block=False)``."""
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """``get(block=False)``."""
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Append all the items, or none and raise Full if they do not all have room."""
        if not isinstance(items, Iterable):
            raise TypeError(f"items must be an iterable, not {type(items).__name__}")
        _answer(self._there().put_batch.remote(list(items)))

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take the first ``num_items`` items, or none and raise Empty if there are fewer."""
        if isinstance(num_items, bool) or not isinstance(num_items, int):
            raise TypeError(f"num_items must be an integer, not {type(num_items).__name__}")
        if num_items < 0:
            raise ValueError(f"num_items must not be negative, as {num_items} is")
        items: list[Any] = _answer(self._there().get_batch.remote(num_items))
        return items

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the actor: calls that wait in it fail with ActorDiedError, and the queue cannot be used any more.

        Without ``force`` what was called before has ``grace_period_s`` seconds to be done.
        """
        actor, self.actor = self.actor, None
        if actor is None:
            return
        if not force:
            hpc.wait([actor.__ray_terminate__.remote()], timeout=grace_period_s)
        hpc.kill(actor, no_restart=True)  # calls that wait in it would keep it for ever

    def _there(self) -> Any:
        if self.actor is None:
            raise RuntimeError("the queue was shut down")
        return self.actor


def _wait_s(block: bool, timeout: float | None) -> float | None:
    """How long the actor may wait: None for ever, 0 not at all."""
    if not block:
        return 0
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must not be negative, as {timeout} is")
    return timeout


class _Refused:
    """In place of a value: the exception that the caller raises. It never ran into an error, so it has no traceback."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _answer(ref: Any) -> Any:
    """Wait for the actor's answer. A caller that is interrupted withdraws the call: a call that waits on would take an
    item from later callers."""
    try:
        answer = hpc.get(ref)
    except BaseException:
        _withdraw(ref)
        raise
    return _unwrap(answer)


async def _answer_async(ref: Any) -> Any:
    try:
        answer = await ref
    except BaseException:
        _withdraw(ref)
        raise
    return _unwrap(answer)


def _withdraw(ref: Any) -> None:
    with contextlib.suppress(HpcError, OSError):  # what went wrong first is what the caller should see
        hpc.cancel(ref)


def _unwrap(answer: Any) -> Any:
    """What methods of `_Items` answer: a list with the value, or a refusal."""
    if isinstance(answer, _Refused):
        raise answer.error
    return answer[0]


class _Items:
    """The actor: an asyncio queue."""

    def __init__(self, maxsize: int) -> None:
        self.items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self.items.qsize()

    async def put(self, item: Any, wait_s: float | None) -> Any:
        if wait_s == 0:
            if self.items.full():
                return _Refused(Full(f"the queue has its {self.items.maxsize} items"))
            self.items.put_nowait(item)
            return [None]
        try:
            await asyncio.wait_for(self.items.put(item), wait_s)
        except asyncio.TimeoutError:
            return _Refused(Full(f"the queue had its {self.items.maxsize} items for {wait_s} s"))
        return [None]

    async def get(self, wait_s: float | None) -> Any:
        if wait_s == 0:
            return _Refused(Empty("the queue is empty")) if self.items.empty() else [self.items.get_nowait()]
        try:
            return [await asyncio.wait_for(self.items.get(), wait_s)]
        except asyncio.TimeoutError:
            return _Refused(Empty(f"the queue was empty for {wait_s} s"))

    async def put_batch(self, items: list[Any]) -> Any:
        room = self.items.maxsize - self.items.qsize()
        if self.items.maxsize > 0 and len(items) > room:
            return _Refused(Full(f"{len(items)} items do not fit: the queue has room for {room}"))
        for item in items:
            self.items.put_nowait(item)
        return [None]

    async def get_batch(self, count: int) -> Any:
        if count > self.items.qsize():
            return _Refused(Empty(f"the queue has {self.items.qsize()} items, not {count}"))
        return [[self.items.get_nowait() for _ in range(count)]]


__all__ = ["Empty", "Full", "Queue"]
