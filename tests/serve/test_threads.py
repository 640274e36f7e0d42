"""Threads that call deployments at the same time: none of them waits for ever, and nothing is lost or done twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import hpc
from tests.serve.by_hand import ByHand

WAIT_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    hpc.init(num_cpus=4)
    yield
    hpc.shutdown()


class Work:
    async def __call__(self, value: Any) -> int:
        return len(value) if isinstance(value, np.ndarray) else value

    async def items(self, count: int) -> Any:
        for number in range(count):
            yield number


def all_end(*works: Callable[[], None]) -> None:
    """Run these in threads. Raises the first error, and AssertionError where one does not end."""
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[work], daemon=True) for work in works]
    for thread in threads:
        thread.start()
    until = time.monotonic() + WAIT_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def test_large_arguments_while_answers_come() -> None:
    handle = ByHand(Work, name="large", max_ongoing_requests=1000).handle
    large = np.zeros(300_000)

    def send() -> None:
        for _ in range(20):
            responses = [handle.remote(large if number % 4 == 0 else number) for number in range(40)]
            for number, response in enumerate(responses):
                assert response.result(timeout_s=WAIT_S) == (len(large) if number % 4 == 0 else number)

    all_end(send, send)


def test_threads_that_call_two_deployments_each() -> None:
    one = ByHand(Work, name="one", max_ongoing_requests=1000).handle
    other = ByHand(Work, name="other", max_ongoing_requests=1000).handle

    def ask(first: Any, second: Any) -> None:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            responses = [(first if number % 2 else second).remote(number) for number in range(300)]
            assert [response.result(timeout_s=WAIT_S) for response in responses] == list(range(300))

    all_end(lambda: ask(one, other), lambda: ask(other, one), lambda: ask(one, other))


def test_a_response_of_one_thread_is_the_argument_of_another_deployment() -> None:
    first = ByHand(Work, name="first", max_ongoing_requests=20).handle
    second = ByHand(Work, name="second", max_ongoing_requests=20).handle

    def chain() -> None:
        for _ in range(10):
            responses = [second.remote(first.remote(number)) for number in range(100)]
            back = [first.remote(response) for response in responses]
            assert [response.result(timeout_s=WAIT_S) for response in back] == list(range(100))

    all_end(chain, chain)


def test_streams_begin_in_many_threads() -> None:
    handle = ByHand(Work, name="begin", max_ongoing_requests=1000).handle.options(stream=True)

    def read() -> None:
        for _ in range(100):
            assert list(handle.items.remote(3)) == [0, 1, 2]

    all_end(*[read] * 4)
