"""hpc.spi.arrivals: one thread is told of what comes of many references and generators."""

from __future__ import annotations

import threading
import time

import pytest

import hpc
from hpc import spi
from runtime.running import one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node():
        yield


@hpc.remote
def after(latch, value):
    hpc.get(latch[0])
    if value is None:
        raise ValueError("none")
    return value


@hpc.remote(num_returns="streaming")
def items(count):
    yield from range(count)


def test_each_reference_is_told_once_and_in_the_order_of_coming():
    arrivals = spi.arrivals()
    latches = [spi.latch() for _ in range(3)]
    for key, latch in enumerate(latches):
        arrivals.watch(key, latch.ref)
    assert arrivals.next(0.01) == []
    latches[2].open()
    assert arrivals.next(10) == [2]
    latches[0].open()
    latches[1].open()
    found = arrivals.next(10)
    while len(found) < 2:
        found += arrivals.next(10)
    assert found == [0, 1] and arrivals.next(0.01) == []


def test_errors_are_told_as_such_and_generators_item_by_item():
    arrivals = spi.arrivals()
    latch = spi.latch()
    good, bad = after.remote([latch.ref], 1), after.remote([latch.ref], None)
    arrivals.watch("good", good)
    arrivals.watch("bad", bad)
    latch.open()
    keys = []
    while len(keys) < 2:
        keys += arrivals.next(10)
    assert sorted(keys) == ["bad", "good"]
    assert arrivals.failed(bad) and not arrivals.failed(good)
    with pytest.raises(ValueError, match="none"):
        hpc.get(bad)
    generator, values = items.remote(5), []
    while True:
        item = arrivals.take(generator)
        if item is None:
            arrivals.watch("more", generator)
            assert arrivals.next(10) == ["more"]
            continue
        ref, failed = item
        assert not failed
        if ref is None:
            break
        values.append(hpc.get(ref))
    assert values == [0, 1, 2, 3, 4]


def test_another_thread_wakes_who_waits():
    arrivals = spi.arrivals()
    timer = threading.Timer(0.05, arrivals.poke)
    timer.start()
    began = time.monotonic()
    assert arrivals.next(30) == []
    assert time.monotonic() - began < 10
    arrivals.poke()
    assert arrivals.next(30) == []  # also where it was poked before


def test_a_generator_that_waits_for_its_consumer_lends_its_cpu():
    @hpc.remote(num_cpus=2, num_returns="streaming", _generator_backpressure_num_objects=1)
    def ahead():
        yield from range(3)

    generator = ahead.remote()
    assert hpc.get(next(generator)) == 0
    assert hpc.get(hpc.remote(num_cpus=2)(lambda: "ran").remote(), timeout=30) == "ran"
    assert [hpc.get(ref) for ref in generator] == [1, 2]
