"""Coroutines of users: a loop in a thread of its own runs several at a time; results come in the order of the items.

The loop lives as long as the process, so that connections which an object opened in one call serve the next.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def loop() -> asyncio.AbstractEventLoop:
    """The loop of this process."""
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="hpc-data-coroutines", daemon=True).start()
        return _loop


def in_order(call: Callable[[Any], Any], generator: bool, items: Iterable[Any], most: int) -> Iterator[list[Any]]:
    """For each item the list of what the coroutine gives: one value, or all values of an async generator.

    At most `most` run at a time. Finished ones wait for those before them, so that the order is that of the items. The
    items are taken by the calling thread. Raises what a coroutine raised, and cancels the others.
    """
    runs = loop()
    room = asyncio.Semaphore(most)

    async def run(item: Any) -> list[Any]:
        async with room:
            if generator:
                return [one async for one in call(item)]
            return [await call(item)]

    waiting: deque[Future[list[Any]]] = deque()
    source = iter(items)
    try:
        for item in source:
            waiting.append(asyncio.run_coroutine_threadsafe(run(item), runs))
            del item
            # As many again may have finished behind a slow one.
            if len(waiting) >= 2 * most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
