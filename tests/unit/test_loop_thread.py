"""A loop on a thread of its own: one for all threads, and a forked process has another one."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from hpc.util.loop_thread import LoopThread

LOOP = LoopThread("hpc-test-loop")


async def thread_name() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def ran() -> str:
    return asyncio.run_coroutine_threadsafe(thread_name(), LOOP.get()).result(timeout=30)


def test_all_threads_share_one_loop_on_its_thread() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len({id(future.result()) for future in [pool.submit(LOOP.get) for _ in range(32)]}) == 1
    assert ran() == "hpc-test-loop"


def test_a_forked_process_begins_its_own() -> None:
    assert ran() == "hpc-test-loop"
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, ran().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        assert told.read() == b"hpc-test-loop"
    os.waitpid(child, 0)
