"""The loop of asyncio in which coroutines of users run: one thread of the process, as long as it lives.

So a connection that an object opens in one call serves the next.
"""

from __future__ import annotations

from hpc.util.loop_thread import LoopThread

_loop = LoopThread("hpc-data-coroutines")
#: The loop of this process.
running = _loop.get
