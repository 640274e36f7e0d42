"""Replicas that are killed, or fall silent, while requests run: what the rules promise, and errors with names."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

import hpc
from hpc.exceptions import RayActorError
from hpc.serve.exceptions import ReplicaDiedError
from tests.serve.by_hand import ByHand


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    hpc.init(num_cpus=4)
    yield
    hpc.shutdown()


class Work:
    async def __call__(self, value: int) -> tuple[int, int]:
        await asyncio.sleep(0.005)
        return value, os.getpid()

    async def items(self, count: int) -> Any:
        for number in range(count):
            await asyncio.sleep(0.01)
            yield number


def outcomes(handle: Any, count: int, at: int, strike: Any, window: int = 20) -> list[Any]:
    """The values of so many requests, a window of them at a time, or their errors; ``strike`` is called at one."""
    found: list[Any] = []
    underway: list[Any] = []

    def take() -> None:
        try:
            found.append(underway.pop(0).result(timeout_s=30)[0])
        except RayActorError as error:
            found.append(error)

    for number in range(count):
        if number == at:
            strike()
        underway.append(handle.remote(number))
        if len(underway) >= window:
            take()
    while underway:
        take()
    return found


def test_a_replica_is_killed_under_load() -> None:
    deployment = ByHand(Work, name="killed", replicas=2, max_ongoing_requests=10)
    victim = next(iter(deployment.actors))
    found = outcomes(deployment.handle, 400, 100, lambda: deployment.signal(victim, signal.SIGKILL))
    errors = [one for one in found if isinstance(one, Exception)]
    assert len(errors) <= 10  # what it had in flight
    for error in errors:
        assert isinstance(error, ReplicaDiedError) and "may have run" in str(error)
    assert [one for one in found if not isinstance(one, Exception)] == [
        number for number, one in enumerate(found) if not isinstance(one, Exception)
    ]


def test_requests_that_may_run_twice_are_never_lost() -> None:
    deployment = ByHand(Work, name="safe", replicas=2, max_ongoing_requests=10, retry="always")
    victim = next(iter(deployment.actors))
    found = outcomes(deployment.handle, 400, 100, lambda: deployment.signal(victim, signal.SIGKILL))
    assert found == list(range(400))


def test_a_silent_replica_loses_nothing_that_may_run_twice() -> None:
    deployment = ByHand(Work, name="silent", replicas=2, max_ongoing_requests=10, retry="always")
    victim = next(iter(deployment.actors))
    began = time.monotonic()
    try:
        found = outcomes(deployment.handle, 300, 100, lambda: deployment.signal(victim, signal.SIGSTOP))
        took_s = time.monotonic() - began
        pids = {deployment.handle.remote(0).result(timeout_s=30)[1] for _ in range(10)}
        assert pids == set(deployment.pids.values()) - {deployment.pids[victim]}
    finally:
        deployment.signal(victim, signal.SIGCONT)
    assert found == list(range(300))
    assert took_s < 20  # and not the runtime's 60 s until a node counts as dead
    until = time.monotonic() + 20
    while deployment.handle.remote(0).result(timeout_s=30)[1] != deployment.pids[victim]:
        assert time.monotonic() < until, "the replica speaks again and gets nothing"


def test_requests_that_were_not_begun_leave_a_silent_replica() -> None:
    deployment = ByHand(Work, name="stopped", replicas=1, max_ongoing_requests=10)
    assert deployment.handle.remote(0).result(timeout_s=20)[0] == 0
    (victim,) = deployment.actors
    deployment.signal(victim, signal.SIGSTOP)
    try:
        responses = [deployment.handle.remote(number) for number in range(5)]
        with pytest.raises(TimeoutError):
            responses[0].result(timeout_s=0.3)
        other = deployment.add()
        deployment.push()
        assert [response.result(timeout_s=30) for response in responses] == [
            (number, deployment.pids[other]) for number in range(5)
        ]
    finally:
        deployment.signal(victim, signal.SIGCONT)


def test_a_stream_breaks_with_a_named_error() -> None:
    deployment = ByHand(Work, name="stream", replicas=1)
    stream = deployment.handle.options(stream=True).items.remote(1000)
    assert next(stream) == 0
    deployment.signal(next(iter(deployment.actors)), signal.SIGKILL)
    with pytest.raises(ReplicaDiedError):
        list(stream)


def test_one_that_was_idle_when_it_was_killed_loses_nothing() -> None:
    deployment = ByHand(Work, name="idle", replicas=3)
    assert deployment.handle.remote(0).result(timeout_s=20)[0] == 0
    victim = next(iter(deployment.actors))
    deployment.signal(victim, signal.SIGKILL)
    with pytest.raises(RayActorError):
        hpc.get(deployment.actors[victim].stats.remote(), timeout=20)
    # This process knows it, and the table does not yet. What is sent there has not run.
    assert [deployment.handle.remote(number).result(timeout_s=20)[0] for number in range(20)] == list(range(20))


@hpc.remote(num_cpus=0)
class Reader:
    """Reads a stream that does not end."""

    def __init__(self, handle: Any) -> None:
        self.stream = handle.options(stream=True).items.remote(100_000)

    def pid(self) -> int:
        assert next(self.stream) == 0
        return os.getpid()


def test_a_reader_that_is_killed_gives_its_place_back() -> None:
    deployment = ByHand(Work, name="reader", max_ongoing_requests=1)
    reader = Reader.remote(deployment.handle)
    os.kill(hpc.get(reader.pid.remote()), signal.SIGKILL)
    assert deployment.handle.remote(1).result(timeout_s=30)[0] == 1


def test_without_replicas_requests_wait_for_the_next_one() -> None:
    deployment = ByHand(Work, name="next", replicas=1, retry="always")
    (victim,) = deployment.actors
    response = deployment.handle.remote(1)
    deployment.signal(victim, signal.SIGKILL)
    del deployment.actors[victim]
    other = deployment.add()
    deployment.push()
    assert response.result(timeout_s=30)[0] == 1
    assert deployment.handle.remote(2).result(timeout_s=30) == (2, deployment.pids[other])
