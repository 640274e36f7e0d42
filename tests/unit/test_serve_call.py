"""A request that is over wakes whoever waits for it, whichever of the two comes first."""

from __future__ import annotations

import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from hpc import spi
from hpc.serve.calls import call as calls
from hpc.serve.calls.call import Call
from hpc.serve.calls.turn import Turn
from hpc.serve.messages import RequestMeta


def request(kind: Any = "call") -> Call:
    router: Any = SimpleNamespace(lock=Turn())
    return Call(router, kind, RequestMeta("id"), (), {})


def test_an_end_while_the_latch_is_made_is_seen(monkeypatch: Any) -> None:
    stream = request("stream")
    opened = []

    def latch() -> Any:
        stream.finish(ValueError("over"))  # by another thread, which finds no latch yet
        return SimpleNamespace(ref=None, open=lambda: opened.append(1))

    def get(ref: Any, timeout: Any = None) -> None:
        pytest.fail("it waits for a latch that nobody opens")

    monkeypatch.setattr(spi, "latch", latch)
    monkeypatch.setattr(calls.hpc, "get", get)
    assert stream.wait(None) is calls.MISSING
    assert isinstance(stream.error, ValueError)


def test_a_waiter_is_called_once_whatever_comes_first() -> None:
    for number in range(200):
        one, called = request(), list[int]()
        ends = threading.Thread(target=one.finish, daemon=True)
        ends.start()
        one.when_over(partial(called.append, 1))
        ends.join(5)
        assert called == [1], number


def test_the_end_waits_while_a_waiter_is_added() -> None:
    one, called = request(), list[int]()
    with calls._waiting:
        ends = threading.Thread(target=one.finish, daemon=True)
        ends.start()
        one.waiters = [lambda: called.append(1)]  # as `when_over` does it, once it has seen that it is not over
    ends.join(5)
    assert called == [1]
