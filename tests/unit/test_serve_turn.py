"""The lock of routers, for which the thread that reads answers does not wait."""

from __future__ import annotations

import threading
from typing import Any

from hpc.serve.calls.turn import Turn


def in_thread(work: Any) -> None:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "it waits for a lock"


def test_what_is_free_is_done_at_once() -> None:
    turn, done = Turn(), list[int]()
    turn.soon(done.append, 1)
    assert done == [1] and not turn.is_mine


def test_the_holder_does_what_others_bring_when_it_gives_the_lock_back() -> None:
    turn, done = Turn(), list[Any]()
    with turn:
        assert turn.is_mine
        in_thread(lambda: [turn.soon(done.append, number) for number in range(3)])
        with turn:
            turn.soon(lambda: done.append(turn.is_mine))
        assert done == []  # in the middle of a step nothing else is done
    assert done == [0, 1, 2, True]


def test_two_that_hold_a_lock_each_do_not_wait_for_each_other() -> None:
    one, other, done = Turn(), Turn(), list[str]()
    holds, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with other:
            holds.set()
            may_end.wait(5)
            one.soon(done.append, "one")

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert holds.wait(5)
    with one:
        other.soon(done.append, "other")
        may_end.set()
        thread.join(5)
        assert not thread.is_alive() and done == ["other"]
    assert done == ["other", "one"]


def test_nothing_is_left_over_when_many_bring_something() -> None:
    turn, done = Turn(), list[int]()
    threads = [
        threading.Thread(target=lambda: [turn.soon(done.append, number) for number in range(2000)], daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for _ in range(2000):
        with turn:
            done.append(-1)
    for thread in threads:
        thread.join(20)
    assert len(done) == 10_000


def test_an_error_ends_nobody(caplog: Any) -> None:
    turn, done = Turn(), list[int]()
    turn.soon(lambda: 1 // 0)
    turn.soon(done.append, 1)
    assert done == [1] and "ZeroDivisionError" in caplog.text
    with turn:
        pass
