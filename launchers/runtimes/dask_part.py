"""Dask's part on a node: a worker under its nanny, and on the first node the scheduler."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

from hpc.launchers.runtimes.face import Order, Say

HERE_ONLY = "127.0.0.1:0"
#: How long a worker looks for the scheduler, at the start and when it has lost it.
DEATH_S = 60


def dask_part(order: Order, say: Say) -> int:
    """Until SIGTERM, or until the scheduler has gone. Returns an exit code."""
    os.mkdir(order["folder"], 0o700)
    try:
        return asyncio.run(_serve(order, say))
    except Exception as error:
        print(f"Dask: {_root_cause(error)}", file=sys.stderr)
        return 1


def _root_cause(error: BaseException) -> str:
    """What went wrong first, in one line: Dask's processes each wrap it once more."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


async def _serve(order: Order, say: Say) -> int:
    from distributed import Nanny, Scheduler
    from distributed.security import Security

    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, told.set)
    security = Security()  # by the variables that the launcher has set
    common: dict[str, Any] = {"host": order["host"], "security": security, "dashboard_address": HERE_ONLY}
    async with AsyncExitStack() as stack:
        address = order["scheduler"]
        if address is None:
            scheduler = Scheduler(protocol="tls", port=0, dashboard=False, **common)
            address = (await stack.enter_async_context(scheduler)).address
        nanny = Nanny(
            address, nthreads=order["nthreads"], memory_limit=order["memory_limit"], name=order["name"],
            local_directory=order["folder"], dashboard=False, death_timeout=DEATH_S, **common,
        )  # fmt: skip
        await stack.enter_async_context(nanny)
        say({"address": address})
        gone = asyncio.ensure_future(nanny.finished())
        stopped = asyncio.ensure_future(told.wait())
        await asyncio.wait({gone, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
    return 0 if told.is_set() else 1
