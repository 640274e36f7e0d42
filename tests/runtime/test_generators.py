"""Generators: items are there while the generator still runs; order, errors, windows, retries, dropping."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

import hpc
from runtime.running import eventually, one_node, settle


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module: None) -> Iterator[None]:
    with one_node(object_store_memory=256 << 20):
        yield


@pytest.fixture(autouse=True)
def nothing_stays(no_leaks: None) -> Iterator[None]:
    yield
    settle()


@hpc.remote
def count(n):
    yield from range(n)


@hpc.remote
def failing(n):
    yield from range(n)
    raise ValueError("after the last item")


@hpc.remote
class Maker:
    def items(self, n):
        for i in range(n):
            yield i * i

    @hpc.method(num_returns="streaming")
    def named(self, n):
        yield from range(n)

    def plain(self):
        return [1]


@hpc.remote
class AsyncMaker:
    async def items(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async def other(self):
        return "there"


def test_items_in_order() -> None:
    generator = count.remote(1000)
    assert isinstance(generator, hpc.ObjectRefGenerator)
    assert [hpc.get(ref) for ref in generator] == list(range(1000))
    with pytest.raises(StopIteration):
        next(generator)
    assert generator.is_finished()
    assert hpc.get(generator.completed()) is None


def test_an_item_is_there_before_the_generator_ends(tmp_path) -> None:
    go = tmp_path / "go"

    @hpc.remote
    def slow():
        yield "first"
        while not go.exists():
            time.sleep(0.005)
        yield "second"

    generator = slow.remote()
    assert hpc.get(next(generator)) == "first"
    assert not generator.next_ready()
    ready, rest = hpc.wait([generator], timeout=0.05)
    assert not ready and rest == [generator]
    go.touch()
    ready, rest = hpc.wait([generator])
    assert ready == [generator] and not rest
    assert hpc.get(next(generator)) == "second"


def test_large_items_and_their_memory() -> None:
    @hpc.remote
    def blocks(n):
        for i in range(n):
            yield np.full(1 << 20, i % 256, np.uint8)

    for i, ref in enumerate(blocks.remote(300)):  # more than the store holds at once
        assert hpc.get(ref)[17] == i % 256
    del ref


def test_a_failure_is_the_last_item() -> None:
    generator = failing.remote(2)
    assert [hpc.get(next(generator)), hpc.get(next(generator))] == [0, 1]
    last = next(generator)
    with pytest.raises(ValueError, match="after the last item"):
        hpc.get(last)
    with pytest.raises(StopIteration):
        next(generator)
    assert hpc.get(generator.completed()) is None


@pytest.mark.parametrize("count", ["streaming", "dynamic"])
def test_what_does_not_yield_is_no_generator(count) -> None:
    with pytest.raises(ValueError, match="has no `yield`"):

        @hpc.remote(num_returns=count)
        def plain():
            return [5]

    maker = Maker.remote()
    with pytest.raises(ValueError, match="has no `yield`"):
        maker.plain.options(num_returns=count)


def test_dynamic() -> None:
    @hpc.remote(num_returns="dynamic")
    def blocks(n):
        for i in range(n):
            yield np.full(200_000, i, np.uint8) if i % 2 else i

    ref = blocks.remote(6)
    refs = list(hpc.get(ref))
    assert len(refs) == 6
    del ref
    assert [int(np.max(hpc.get(r))) for r in refs] == list(range(6))

    @hpc.remote
    def total(generator):
        return sum(int(np.max(v)) for v in hpc.get(list(generator)))

    assert hpc.get(total.remote(blocks.remote(6))) == 15


def test_a_window_holds_the_generator_back(tmp_path) -> None:
    made = tmp_path / "made"

    @hpc.remote(_generator_backpressure_num_objects=3)
    def careful(n):
        for i in range(n):
            made.write_text(str(i))
            yield i

    generator = careful.remote(50)
    eventually(lambda: made.exists() and made.read_text() == "2")
    time.sleep(0.05)  # nothing more happens
    assert made.read_text() == "2"
    assert [hpc.get(ref) for ref in generator] == list(range(50))

    generator = careful.remote(50)
    next(generator)
    del generator  # nobody takes them: it must not wait for ever
    eventually(lambda: made.read_text() == "49")


def test_actors() -> None:
    maker = Maker.remote()
    assert [hpc.get(ref) for ref in maker.items.remote(5)] == [0, 1, 4, 9, 16]
    assert [hpc.get(ref) for ref in maker.named.remote(3)] == [0, 1, 2]
    eager = AsyncMaker.remote()
    one, two = eager.items.remote(20), eager.items.remote(20)
    assert hpc.get(eager.other.remote()) == "there"
    assert [hpc.get(a) + hpc.get(b) for a, b in zip(one, two)] == [2 * i for i in range(20)]


def test_async_iteration() -> None:
    async def collect():
        return [await ref async for ref in count.remote(50)]

    assert asyncio.run(collect()) == list(range(50))

    @hpc.remote
    class Consumer:
        async def total(self):
            return sum([await ref async for ref in count.remote(20)])

    assert hpc.get(Consumer.remote().total.remote()) == 190


def test_a_crash_in_the_middle_is_not_seen(tmp_path) -> None:
    mark = tmp_path / "crashed"

    @hpc.remote
    def fragile(n):
        for i in range(n):
            if i == 7 and not mark.exists():
                mark.touch()
                os._exit(1)
            yield i

    assert [hpc.get(ref) for ref in fragile.remote(12)] == list(range(12))


def test_references_inside_items() -> None:
    @hpc.remote
    def boxes(n):
        for i in range(n):
            yield [hpc.put(np.full(300_000, i, np.uint8))]

    inner = [hpc.get(ref)[0] for ref in boxes.remote(5)]
    assert [int(hpc.get(ref)[0]) for ref in inner] == list(range(5))


def test_cancel_and_passing_on() -> None:
    @hpc.remote
    def endless():
        i = 0
        while True:
            time.sleep(0.001)
            yield i
            i += 1

    generator = endless.remote()
    assert hpc.get(next(generator)) == 0
    hpc.cancel(generator)
    with pytest.raises(hpc.exceptions.TaskCancelledError):
        hpc.get(list(generator))
    with pytest.raises(TypeError, match="cannot be passed"):
        count.remote(generator)
