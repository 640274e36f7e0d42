"""Nothing that can go on stands still: nested waiting, full nodes, more work than memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import pytest

import hpc
from hpc.core.process.current import need_client
from runtime.running import one_node, settle

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module: None) -> Iterator[None]:
    with one_node():
        yield


@pytest.fixture(autouse=True)
def nothing_stays(no_leaks: None) -> Iterator[None]:
    yield
    settle()


@hpc.remote
def fib(n: int) -> int:
    return n if n < 2 else sum(hpc.get([fib.remote(n - 1), fib.remote(n - 2)]))


@hpc.remote
def echo(value):
    return value


def test_recursion_deeper_than_there_are_cpus():
    assert hpc.get(fib.remote(9)) == 34


def test_waiting_for_what_is_queued_behind():
    """Short tasks teach the submitter to queue them behind one another; then one of them waits for the next."""
    hpc.get([echo.remote(i) for i in range(2000)])

    @hpc.remote
    def total(refs):
        return sum(hpc.get(refs))

    for _ in range(20):
        refs = [echo.remote(i) for i in range(20)]
        later = [total.remote(refs) for _ in range(20)]
        assert hpc.get(later) == [190] * 20


def test_a_task_that_submits_to_its_own_function():
    @hpc.remote
    def tree(depth):
        if not depth:
            return 1
        return 1 + sum(hpc.get([tree.remote(depth - 1) for _ in range(3)]))

    assert hpc.get(tree.remote(4)) == 121


def test_coroutines_that_call_each_other():
    @hpc.remote
    class Peer:
        def __init__(self):
            self.other = None

        async def meet(self, box):
            self.other = box[0]

        async def ping(self, n):
            return n if not n else await self.other.ping.remote(n - 1)

    one, two = Peer.remote(), Peer.remote()
    hpc.get([one.meet.remote([two]), two.meet.remote([one])])
    assert hpc.get([one.ping.remote(20), two.ping.remote(21)]) == [0, 0]
    for peer in (one, two):  # each has a handle of the other: by themselves they would not end before the session
        hpc.kill(peer)


def test_more_calls_than_the_limit_of_pending_bytes(monkeypatch):
    monkeypatch.setattr("hpc.core.owner.shell.client.MAX_PENDING_BYTES", 4 << 20)
    machine, most = need_client().machine, 0
    refs = []
    for i in range(20_000):
        refs.append(echo.remote(i))
        most = max(most, machine.state.pending_bytes)
    assert most < (4 << 20) + 10_000
    assert hpc.get(refs) == list(range(20_000))
    assert machine.state.pending_bytes == 0


def test_ten_thousand_arguments():
    @hpc.remote
    def total(*values, more):
        return sum(values) + sum(hpc.get(more))

    refs = [echo.remote(i) for i in range(10_000)]
    assert hpc.get(total.remote(*refs, more=refs)) == 2 * sum(range(10_000))


def test_large_arguments_go_through_the_store_once():
    array = np.ones(5 << 20, np.uint8)
    ref = hpc.put(array)

    @hpc.remote
    def size(value):
        return value.nbytes

    start = time.monotonic()
    assert hpc.get([size.remote(ref) for _ in range(200)]) == [5 << 20] * 200
    assert hpc.get(size.remote(array)) == 5 << 20
    assert time.monotonic() - start < 30


def test_awaiting_many_at_once():
    async def gather():
        return await asyncio.gather(*[echo.remote(i) for i in range(500)])

    assert asyncio.run(gather()) == list(range(500))
