"""Answers of HTTP that go on, and whose readers leave at any moment: the replica and its caller have room again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import hpc
from hpc.serve.calls import routers
from hpc.serve.messages import HttpRequest, RequestMeta, packed_http
from tests.serve.by_hand import ByHand

META = RequestMeta("id", is_http=True)
REQUEST = HttpRequest("GET", "/")


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    hpc.init(num_cpus=4)
    yield
    hpc.shutdown()


class Endless:
    async def __call__(self) -> AsyncIterator[bytes]:
        while True:
            yield b"more"
            await asyncio.sleep(0.001)


def router_of_one(name: str) -> Any:
    """The router of a deployment that has room for one request."""
    return routers.router_of(ByHand(Endless, name=name, max_ongoing_requests=1).id)


async def reads_again(router: Any) -> None:
    """The only slot is free."""
    stream = await asyncio.wait_for(router.http(META, REQUEST), 20)
    assert await stream.__anext__() == b"more"
    stream.close()
    for seat in router.machine.seats.values():
        assert seat.running == 0


def test_a_reader_that_leaves_at_once() -> None:
    async def run() -> None:
        router = router_of_one("at_once")
        for _ in range(10):
            stream = await asyncio.wait_for(router.http(META, REQUEST), 20)
            stream.close()  # the call that reads the rest has not begun
        await reads_again(router)

    asyncio.run(run())


def test_a_reader_that_leaves_when_its_answer_has_just_come() -> None:
    async def run() -> None:
        router = router_of_one("just_come")
        call = router.begin("http", META, (packed_http(REQUEST),), {}, True)
        router.submit(call)
        while not call.is_over:
            await asyncio.sleep(0.001)
        router.cancel(call)
        await reads_again(router)

    asyncio.run(run())


def test_a_reader_that_leaves_while_its_answer_is_on_the_way() -> None:
    async def run() -> None:
        router = router_of_one("on_the_way")
        call = router.begin("http", META, (packed_http(REQUEST),), {}, True)
        router.submit(call)
        call.is_cancelled = True  # as `cancel` leaves it where the replica has answered already
        await reads_again(router)

    asyncio.run(run())


class Wide:
    """Its pieces are large; it knows how many it has made."""

    made = 0

    async def __call__(self) -> AsyncIterator[bytes]:
        for _ in range(100):
            Wide.made += 1
            yield bytes(1 << 20)

    async def count(self) -> int:
        return Wide.made


def test_what_a_reader_has_not_taken_is_bounded_by_its_bytes() -> None:
    wide = ByHand(Wide, name="wide")

    async def run() -> None:
        stream = await asyncio.wait_for(routers.router_of(wide.id).http(META, REQUEST), 20)
        before, made = -1, 0
        while made != before:  # the replica goes on until it has to wait
            await asyncio.sleep(0.2)
            before, made = made, await wide.handle.count.remote()
        assert 1 <= made <= 6
        size = len(stream.first)
        async for piece in stream:
            size += len(piece)
        assert size == 100 << 20

    asyncio.run(run())
