"""Applications in this process, without a session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hpc import serve
from hpc.serve.calls.routers import forget_local
from hpc.serve.exceptions import RayServeException, RequestCancelledError


class Slow:
    async def __call__(self, after_s: float, *_: object) -> float:
        await asyncio.sleep(after_s)
        return after_s


def test_a_request_whose_argument_comes_after_the_handles_end_is_not_sent() -> None:
    handle = serve.run(serve.deployment(Slow).bind(), name="slow", _local_testing_mode=True)
    try:
        first = handle.remote(0.2)
        second = handle.remote(0.0, first)
        handle.shutdown()
        with pytest.raises(RayServeException, match="shut down"):
            second.result(timeout_s=5)
        assert first.result(timeout_s=5) == 0.2
    finally:
        forget_local("slow")


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
