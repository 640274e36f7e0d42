"""More small values than a message can hold: they arrive all the same, and the session goes on."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import hpc
from hpc.core.process.current import need_client
from hpc.core.wire import MAX_FRAME_BYTES, KvDelete, KvGet, KvPut
from hpc.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from runtime.running import local_nodes, one_node

SMALL = 88_000
MANY = MAX_FRAME_BYTES // SMALL + 50


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(object_store_memory=512 << 20):
        yield


@hpc.remote
def small(number):
    return bytes(SMALL)


@hpc.remote
def size(*values, **named):
    return sum(len(value) for value in [*values, *named.values()])


@hpc.remote
class Box:
    def __init__(self, *values):
        self.held = sum(len(value) for value in values)

    def size(self, *values):
        return sum(len(value) for value in values)

    def told(self):
        return self.held

    def give(self, count):
        return [bytes(SMALL) for _ in range(count)]


def test_a_reduce_over_more_values_than_a_message_holds():
    parts = [small.remote(i) for i in range(MANY)]
    assert hpc.get(size.remote(*parts), timeout=60) == MANY * SMALL
    assert (
        hpc.get(size.remote(*parts, **{f"n{i}": part for i, part in enumerate(parts)}), timeout=60) == 2 * MANY * SMALL
    )
    box = Box.remote(*parts)
    assert hpc.get([box.told.remote(), box.size.remote(*parts)], timeout=60) == [MANY * SMALL] * 2


def test_values_that_were_put_one_by_one():
    parts = [hpc.put(bytes(SMALL)) for _ in range(MANY)]
    assert hpc.get(size.remote(*parts), timeout=60) == MANY * SMALL


def test_more_arguments_by_value_than_a_message_holds():
    first = hpc.put(b"12345")
    values = [bytes(SMALL) for _ in range(MANY)]
    assert hpc.get(size.remote(first, *values, last=first), timeout=60) == MANY * SMALL + 10
    assert hpc.get(Box.remote(*values).size.remote(*values, first), timeout=60) == MANY * SMALL + 5


def test_more_results_than_a_message_holds():
    @hpc.remote(num_returns=MANY)
    def scatter():
        return [bytes(SMALL) for _ in range(MANY)]

    assert sum(len(value) for value in hpc.get(scatter.remote(), timeout=60)) == MANY * SMALL
    box = Box.remote()
    assert sum(map(len, hpc.get(box.give.options(num_returns=MANY).remote(MANY), timeout=60))) == MANY * SMALL


def test_a_burst_of_calls_and_tasks_with_arguments():
    box = Box.remote()
    calls = [box.size.remote(bytes(SMALL)) for _ in range(MANY)]
    tasks = [size.remote(bytes(SMALL)) for _ in range(MANY)]
    assert hpc.get(calls + tasks, timeout=60) == [SMALL] * 2 * MANY


def test_a_generator_of_more_than_a_message():
    @hpc.remote(num_returns="streaming")
    def items():
        for _ in range(MANY):
            yield bytes(SMALL)

    assert sum(len(hpc.get(ref)) for ref in items.remote()) == MANY * SMALL


def test_one_error_stands_for_all_return_values():
    @hpc.remote(num_returns=300, max_retries=0)
    def fails():
        raise ValueError("x" * (1 << 20))

    for ref in fails.remote():
        with pytest.raises(ValueError, match=r"x{100}"):
            hpc.get(ref, timeout=60)


@pytest.mark.parametrize("kind", ["text", "array"])
def test_an_exception_larger_than_a_message_arrives(kind):
    class Loaded(Exception):
        pass

    @hpc.remote(max_retries=0)
    def fails():
        raise Loaded("why", "x" * MAX_FRAME_BYTES if kind == "text" else np.zeros(MAX_FRAME_BYTES, "u1"))

    with pytest.raises(Loaded, match="why") as caught:
        hpc.get(fails.remote(), timeout=30)
    assert "left out" in str(caught.value.args[1])
    with pytest.raises(Loaded):  # and through whoever needs it
        hpc.get(size.remote(fails.remote()), timeout=30)


def test_a_value_of_the_key_value_store_that_no_message_holds_is_refused():
    client, fits = need_client(), bytes(MAX_FRAME_BYTES - 1000)
    answer = client.conversation.ask_head(lambda req: KvPut(req, "", b"large", bytes(MAX_FRAME_BYTES + 1)))
    assert not answer.ok and "hpc.put()" in answer.why
    assert client.conversation.ask_head(lambda req: KvPut(req, "", b"large", fits)).ok
    assert client.conversation.ask_head(lambda req: KvGet(req, "", b"large")).data == fits
    assert client.conversation.ask_head(lambda req: KvDelete(req, "", b"large")).ok


def test_awaiting_more_values_than_a_message_holds():
    async def gather():
        return sum(len(value) for value in await asyncio.gather(*[small.remote(i) for i in range(MANY)]))

    assert asyncio.run(gather()) == MANY * SMALL


def test_another_node_gets_and_gives_more_than_a_message_holds():
    hpc.shutdown()
    with local_nodes(2, object_store_bytes=256 << 20):
        there = NodeAffinitySchedulingStrategy("2", soft=False)
        parts = [small.remote(i) for i in range(MANY)]
        assert hpc.get(size.options(scheduling_strategy=there).remote(*parts), timeout=60) == MANY * SMALL
        box = Box.options(scheduling_strategy=there).remote()
        assert sum(map(len, hpc.get(box.give.options(num_returns=MANY).remote(MANY), timeout=60))) == MANY * SMALL
        assert hpc.get([box.size.remote(bytes(SMALL)) for _ in range(MANY)], timeout=60) == [SMALL] * MANY

        @hpc.remote
        def reads(boxed):
            return sum(len(hpc.get(part)) for part in boxed)

        assert hpc.get(reads.options(scheduling_strategy=there).remote(parts), timeout=60) == MANY * SMALL
