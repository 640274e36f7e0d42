"""Work ahead of a consumer: in order, bounded, ended by either side, with its errors."""

from __future__ import annotations

import itertools
import threading

import pytest

from hpc.data.prefetch import LEAST_BYTES, Ahead


def ahead(pieces, number=2, size=LEAST_BYTES, **more):
    return Ahead(lambda: iter(pieces), number, lambda _: size, **more)


def test_pieces_come_in_order_and_then_it_ends():
    assert [*ahead(range(1000), size=10)] == [*range(1000)] == [*ahead(range(1000))]
    assert [*ahead([])] == []


def test_it_is_no_further_ahead_than_wanted():
    made, third = [], threading.Event()

    def pieces():
        for number in itertools.count():
            made.append(number)
            if number == 2:
                third.set()
            yield number

    source = Ahead(pieces, 3, lambda _: LEAST_BYTES)
    assert third.wait(20)
    assert next(source) == 0
    source.close()
    source._thread.join(20)
    assert len(made) <= 5 and not source._thread.is_alive()


def test_small_pieces_are_made_ahead_by_their_bytes():
    made, enough = [], threading.Event()

    def pieces():
        for number in range(100):
            made.append(number)
            if number == 20:
                enough.set()
            yield number

    source = Ahead(pieces, 1, lambda _: LEAST_BYTES // 30)
    assert enough.wait(20), "one small piece is not all that is made ahead"
    source.close()


def test_an_error_comes_behind_what_was_made_before_it():
    def pieces():
        yield 1
        raise ValueError("broken")

    source = Ahead(pieces, 4, lambda _: 1)
    assert next(source) == 1
    with pytest.raises(ValueError, match="broken"):
        next(source)


def test_a_consumer_that_leaves_ends_the_source():
    closed, stopped = threading.Event(), []

    def pieces():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    source = Ahead(pieces, 1, lambda _: LEAST_BYTES, lambda: stopped.append(1))
    assert next(source) == 0
    source.close()
    assert closed.wait(20) and stopped == [1]
