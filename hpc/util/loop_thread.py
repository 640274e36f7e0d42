"""A loop of asyncio on a thread of its own: for coroutines that calls from other threads wait for."""

from __future__ import annotations

import asyncio
import os
import threading


class LoopThread:
    """A loop that begins with its first use, and goes on as long as the process lives. A forked process, which has no
    copy of the thread, begins one of its own. Keep it in a module: what is made here is never forgotten."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._making = threading.Lock()

    def get(self) -> asyncio.AbstractEventLoop:
        """The loop, which runs."""
        with self._making:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name=self.name, daemon=True).start()
            return self._loop
