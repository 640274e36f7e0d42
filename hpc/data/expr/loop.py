"""The loop of asyncio in which coroutines of users run: one thread of the process, as long as it lives.

So a connection that an object opens in one call serves the next.
"""

from __future__ import annotations

import asyncio
import threading

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def running() -> asyncio.AbstractEventLoop:
    """The loop of this process."""
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="hpc-data-coroutines", daemon=True).start()
        return _loop
