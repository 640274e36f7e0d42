"""A replica without its actor: the slots that requests take are given back, whatever becomes of their callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from hpc.serve.calls import replica as replicas
from hpc.serve.calls.replica import Replica
from hpc.serve.calls.servable import Servable
from hpc.serve.config import DeploymentConfig
from hpc.serve.messages import (
    DeploymentID,
    HttpOpened,
    HttpRequest,
    Rejected,
    ReplicaID,
    RequestMeta,
    http_answer,
    packed_http,
    packed_meta,
)


class Waits:
    def __init__(self) -> None:
        self.began, self.may_end = 0, asyncio.Event()

    async def __call__(self) -> int:
        self.began += 1
        await self.may_end.wait()
        return self.began


META = packed_meta(RequestMeta("id"))
REQUEST = packed_http(HttpRequest("GET", "/"))


class Answer:
    """One that goes on."""

    status, headers = 200, list[Any]()

    def __init__(self, first: bytes = b"one") -> None:
        self.first = first
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"two"

    async def close(self) -> None:
        self.closed += 1


def replica_of(answer: Answer | None = None, limit: int = 2) -> Replica:
    spec = SimpleNamespace(config=DeploymentConfig(max_ongoing_requests=limit), is_asgi=False)
    made = Replica(ReplicaID("r", DeploymentID("d")), spec, None)

    async def handle(request: Any, pull: Any) -> Any:
        return answer

    made._asgi = SimpleNamespace(handle=handle)
    return made


async def opened(replica: Replica) -> HttpOpened:
    found = http_answer(await replica.http(META, REQUEST))
    assert isinstance(found, HttpOpened)
    return found


async def rest_of(replica: Replica, ident: str) -> list[bytes]:
    return [piece async for piece in replica.http_rest(ident)]


def test_a_stream_is_read_to_its_end() -> None:
    async def run() -> None:
        answer = Answer()
        replica = replica_of(answer)
        beginning = await opened(replica)
        assert (beginning.first, replica._ongoing) == (b"one", 1)
        assert await rest_of(replica, beginning.stream_id) == [b"two"]
        await replica.http_drop(beginning.stream_id)  # too late: it changes nothing
        assert (replica._ongoing, answer.closed) == (0, 1)

    asyncio.run(run())


def test_a_large_beginning_comes_with_the_rest() -> None:
    async def run() -> None:
        replica = replica_of(Answer(b"x" * 100_000))
        beginning = await opened(replica)
        assert beginning.first == b""
        assert await rest_of(replica, beginning.stream_id) == [b"x" * 100_000, b"two"]

    asyncio.run(run())


def test_a_stream_that_is_dropped_before_it_was_read_is_closed() -> None:
    async def run() -> None:
        answer = Answer()
        replica = replica_of(answer)
        beginning = await opened(replica)
        await replica.http_drop(beginning.stream_id)
        assert (replica._ongoing, answer.closed, replica._metrics.cancelled) == (0, 1, 1)
        with pytest.raises(RuntimeError, match="there is no stream"):
            await rest_of(replica, beginning.stream_id)
        await replica.http_drop(beginning.stream_id)
        assert replica._ongoing == 0

    asyncio.run(run())


def test_a_stream_whose_caller_has_ended_is_closed_after_a_while(monkeypatch: Any) -> None:
    monkeypatch.setattr(replicas, "CLAIM_S", 0.01)

    async def run() -> None:
        answer = Answer()
        replica = replica_of(answer)
        await opened(replica)
        assert replica._ongoing == 1
        await asyncio.sleep(0.2)
        assert (replica._ongoing, answer.closed, replica._streams) == (0, 1, {})

    asyncio.run(run())


async def waiting(limit: int) -> Replica:
    """A replica whose requests wait."""
    replica = replica_of(limit=limit)
    replica._servable = Servable(Waits, (), {}, limit)
    await replica._servable.construct()
    return replica


def test_a_config_that_comes_while_a_broadcast_runs_is_what_holds_then() -> None:
    async def run() -> None:
        replica = await waiting(1)
        request = asyncio.ensure_future(replica.call(META))
        broadcasts = [asyncio.ensure_future(replica.broadcast(META)) for _ in range(3)]
        await asyncio.sleep(0)
        assert isinstance(await replica.call(META), Rejected)
        await replica.reconfigure(DeploymentConfig(max_ongoing_requests=2))
        second = asyncio.ensure_future(replica.call(META))
        await asyncio.sleep(0)
        assert isinstance(await replica.call(META), Rejected)
        replica._ready().instance.may_end.set()
        assert await asyncio.gather(request, second, *broadcasts) == [5] * 5
        assert (replica._ongoing, replica._limit) == (0, 2)

    asyncio.run(run())


def test_a_broadcast_runs_where_no_request_is_taken() -> None:
    async def run() -> None:
        replica = await waiting(1)
        replica._ready().instance.may_end.set()
        assert await replica.drain() is True
        assert isinstance(await replica.call(META), Rejected)
        assert await replica.broadcast(META) == 1

    asyncio.run(run())


def test_an_idle_replica_that_drains_turns_late_requests_away_for_a_while() -> None:
    async def run() -> None:
        replica = await waiting(1)
        drained = asyncio.ensure_future(replica.drain(2.0, 20.0))
        await asyncio.sleep(0.05)
        assert not drained.done()  # callers may not know it yet, and the process would end under their requests
        assert isinstance(await replica.call(META), Rejected)
        assert await asyncio.wait_for(drained, 1.5) is True

    asyncio.run(run())
