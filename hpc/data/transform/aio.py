"""Coroutines of users: several run at a time, and their results come in the order of the items."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from hpc.data.expr import loop


def in_order(call: Callable[[Any], Any], generator: bool, items: Iterable[Any], most: int) -> Iterator[list[Any]]:
    """For each item the list of what the coroutine gives: one value, or all values of an async generator.

    At most `most` run at a time. Finished ones wait for those before them, so that the order is that of the items. The
    items are taken by the calling thread. Raises what a coroutine raised, and cancels the others.
    """
    runs = loop.running()
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
