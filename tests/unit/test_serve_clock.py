"""The thread that wakes routers: what fails in it stops nothing else."""

from __future__ import annotations

import threading
import time
from typing import Any

from hpc.serve.calls.clock import Clock


def test_what_fails_does_not_end_it(caplog: Any) -> None:
    clock, called = Clock(), threading.Event()
    now = time.monotonic()
    clock.at(now, lambda: 1 // 0)
    clock.at(now + 0.01, called.set)
    assert called.wait(5)
    assert "ZeroDivisionError" in caplog.text


def test_an_earlier_time_comes_first() -> None:
    clock, called, last = Clock(), list[int](), threading.Event()
    now = time.monotonic()
    clock.at(now + 0.1, lambda: [called.append(2), last.set()])
    clock.at(now + 0.01, lambda: called.append(1))
    assert last.wait(5) and called == [1, 2]
