"""JoinableQueue: a queue that knows how much of what was put into it is still being worked on."""

from __future__ import annotations

from typing import Any

import hpc
from hpc.util.queue import Queue, _answer, _Items, _Refused


class JoinableQueue(Queue):
    """A `Queue` as the standard library's: who has taken an item says `task_done` when it is worked off."""

    def _make(self, options: dict[str, Any]) -> Any:
        return hpc.remote(_JoinableItems).options(**options).remote(self.maxsize)

    def task_done(self) -> None:
        """One item that was taken is worked off. Raises ValueError when called more often than items were put."""
        _answer(self._there().task_done.remote())

    def join(self) -> None:
        """Wait until every item that was put has been worked off."""
        _answer(self._there().join.remote())


class _JoinableItems(_Items):
    """asyncio's queue counts by itself."""

    async def task_done(self) -> Any:
        try:
            self.items.task_done()
        except ValueError:
            return _Refused(ValueError("task_done() was called more often than items were put"))
        return [None]

    async def join(self) -> Any:
        await self.items.join()
        return [None]


__all__ = ["JoinableQueue"]
