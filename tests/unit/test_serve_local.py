"""Applications in this process, without a session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hpc import serve
from hpc.serve.calls.routers import forget_local
from hpc.serve.exceptions import RequestCancelledError


class Waits:
    async def __call__(self) -> None:
        await asyncio.sleep(60)

    async def items(self) -> AsyncIterator[int]:
        await asyncio.sleep(60)
        yield 1


def test_a_request_that_is_cancelled_at_once_ends_at_once() -> None:
    handle = serve.run(serve.deployment(Waits).bind(), name="waits", _local_testing_mode=True)
    try:
        for _ in range(20):
            response = handle.remote()
            response.cancel()  # before its coroutine has begun, mostly
            with pytest.raises(RequestCancelledError):
                response.result(timeout_s=5)
            stream = handle.options(stream=True).items.remote()
            stream.cancel()
            with pytest.raises(RequestCancelledError):
                list(stream)
    finally:
        forget_local("waits")
