"""The event loop: descriptors, timers, turns, and ZeroMQ's edge-triggered descriptor."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from hpc.core.net import reactor as module
from hpc.core.net.reactor import Reactor

LIMIT_S = 5.0


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    loop = Reactor()
    yield loop
    loop.close()


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    made = zmq.Context()
    yield made
    made.destroy(0)


def run_until(loop: Reactor, done: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, "did not happen in time"
        loop.run_once(0.05)


def test_reader_and_writer(reactor: Reactor) -> None:
    one, two = socket.socketpair()
    got: list[bytes] = []
    reactor.add_reader(two.fileno(), lambda: got.append(two.recv(100)))
    one.send(b"a")
    reactor.run_once(1.0)
    assert got == [b"a"]
    writable: list[int] = []
    reactor.set_writer(two.fileno(), lambda: writable.append(1))
    reactor.run_once(1.0)
    assert writable
    reactor.set_writer(two.fileno(), None)
    count = len(writable)
    reactor.run_once(0.0)
    assert len(writable) == count
    reactor.set_reader(two.fileno(), None)  # paused
    one.send(b"b")
    reactor.run_once(0.0)
    assert got == [b"a"]
    reactor.add_reader(two.fileno(), lambda: got.append(two.recv(100)))
    reactor.run_once(1.0)
    assert got == [b"a", b"b"]
    one.close()
    reactor.run_once(1.0)
    assert got[-1] == b""  # end of file is an event for the reader
    reactor.remove(two.fileno())
    reactor.remove(two.fileno())
    two.close()


def test_regular_files_are_refused_and_leave_nothing(reactor: Reactor, tmp_path: os.PathLike[str]) -> None:
    with open(os.path.join(tmp_path, "f"), "w") as file:
        with pytest.raises(PermissionError):
            reactor.add_reader(file.fileno(), lambda: None)
        reactor.remove(file.fileno())


def test_event_of_a_removed_descriptor_is_not_given_to_its_successor(reactor: Reactor) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    calls: list[str] = []

    def replace(me: int) -> None:
        """Whoever runs first closes the other, whose number then belongs to a new, silent socket."""
        calls.append("old")
        other = pairs[1 - me][1]
        number = other.fileno()
        reactor.remove(number)
        other.close()
        fresh = socket.socketpair()
        os.dup2(fresh[0].fileno(), number)
        pairs.append(fresh)
        reactor.add_reader(number, lambda: calls.append("successor"))
        reactor.remove(pairs[me][1].fileno())

    for i, (far, near) in enumerate(pairs[:2]):
        reactor.add_reader(near.fileno(), lambda i=i: replace(i))  # type: ignore[misc]
        far.send(b"x")
    reactor.run_once(1.0)
    reactor.run_once(0.0)
    assert calls == ["old"]


def test_timers_in_order_and_cancelled(reactor: Reactor) -> None:
    order: list[str] = []
    now = reactor.now()
    reactor.call_at(now + 0.02, lambda: order.append("b"))
    reactor.call_at(now + 0.01, lambda: order.append("a"))
    gone = reactor.call_later(0.015, lambda: order.append("never"))
    gone.cancel()
    gone.cancel()
    assert not gone.active
    last = reactor.call_later(0.03, lambda: (order.append("c"), reactor.stop()))
    started = time.monotonic()
    reactor.run()
    assert order == ["a", "b", "c"]
    assert not last.active
    assert 0.03 <= time.monotonic() - started < 20.0


def test_timer_cancelled_by_one_that_is_due_with_it(reactor: Reactor) -> None:
    order: list[str] = []
    when = reactor.now() - 1
    reactor.call_at(when, lambda: (order.append("first"), second.cancel()))
    second = reactor.call_at(when, lambda: order.append("second"))
    reactor.run_once(0.0)
    assert order == ["first"]


def test_cancelled_timers_do_not_pile_up(reactor: Reactor) -> None:
    for _ in range(10_000):
        reactor.call_later(3600, lambda: None).cancel()
    assert len(reactor._timers) < 300


def test_parts_of_a_turn(reactor: Reactor) -> None:
    order: list[str] = []

    def hook() -> None:
        order.append("hook")

    def soon() -> None:
        order.append("soon")
        reactor.defer(lambda: (order.append("defer"), reactor.defer(lambda: order.append("defer again"))))
        reactor.call_soon(lambda: order.append("next turn"))

    reactor.at_end_of_turn(hook)
    reactor.at_end_of_turn(hook)
    reactor.call_soon(soon)
    reactor.run_once(10.0)
    assert order == ["soon", "hook", "defer", "defer again"]
    reactor.run_once(10.0)  # does not wait: something is queued
    assert order[4:] == ["next turn", "hook"]


def test_deferring_for_ever_does_not_starve_descriptors(reactor: Reactor) -> None:
    one, two = socket.socketpair()
    got: list[bytes] = []

    def again() -> None:
        reactor.defer(again)

    reactor.add_reader(two.fileno(), lambda: got.append(two.recv(10)))
    reactor.defer(again)
    one.send(b"x")
    reactor.run_once(0.0)
    reactor.run_once(0.0)
    assert got == [b"x"]
    one.close()
    two.close()


def test_exceptions_are_logged_counted_and_survived(reactor: Reactor, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def bad() -> None:
        raise RuntimeError("on purpose")

    with caplog.at_level(logging.ERROR, logger=module.__name__):
        for _ in range(module.MAX_LOGGED_ERRORS + 10):
            reactor.call_soon(bad)
        reactor.call_later(0.0, bad)
        reactor.defer(bad)
        reactor.call_soon(lambda: done.append(1))
        reactor.run_once(0.0)
    assert done
    assert reactor.errors == module.MAX_LOGGED_ERRORS + 12
    assert len(caplog.records) == module.MAX_LOGGED_ERRORS
    assert "on purpose" in caplog.text and "Traceback" in caplog.text
    reactor.call_soon(lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        reactor.run_once(0.0)


def test_stop_before_run_and_run_again(reactor: Reactor) -> None:
    reactor.stop()
    reactor.run()
    reactor.call_soon(reactor.stop)
    reactor.run()


def zmq_pair(context: zmq.Context) -> tuple[zmq.Socket, zmq.Socket]:
    one, two = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
    for end in (one, two):
        end.set_hwm(0)
    port = one.bind_to_random_port("tcp://127.0.0.1")
    two.connect(f"tcp://127.0.0.1:{port}")
    return one, two


def test_zmq_messages_that_came_before_the_socket_was_added(reactor: Reactor, context: zmq.Context) -> None:
    one, two = zmq_pair(context)
    got: list[bytes] = []
    two.send(b"early")
    assert one.poll(2000)
    reactor.add_zmq(one, lambda: got.append(one.recv(zmq.NOBLOCK)))
    reactor.run_once(0.0)
    assert got == [b"early"]


def test_zmq_wakes_are_not_lost_when_both_sides_also_send(reactor: Reactor, context: zmq.Context) -> None:
    """Each arrival makes a send, which may swallow the edge of what arrives meanwhile."""
    one, two = zmq_pair(context)
    rounds = {"one": 0, "two": 0}

    def bounce(end: zmq.Socket, name: str) -> None:
        message = end.recv(zmq.NOBLOCK)
        rounds[name] += 1
        if rounds[name] <= 2000:
            end.send(message, zmq.NOBLOCK)
            reactor.touch(end)

    reactor.add_zmq(one, lambda: bounce(one, "one"))
    reactor.add_zmq(two, lambda: bounce(two, "two"))
    for _ in range(3):
        one.send(b"ball")
        reactor.touch(one)
    run_until(reactor, lambda: min(rounds.values()) >= 2000)


def test_zmq_send_between_turns_with_touch(reactor: Reactor, context: zmq.Context) -> None:
    one, two = zmq_pair(context)
    got: list[bytes] = []
    reactor.add_zmq(two, lambda: got.append(two.recv(zmq.NOBLOCK)))
    one.send(b"0")
    run_until(reactor, lambda: got)
    for i in range(50):
        one.send(b"%d" % i)
        deadline = time.monotonic() + 0.001
        while time.monotonic() < deadline:
            pass  # the message arrives now, then the send below swallows its edge
        two.send(b"x")
        reactor.touch(two)  # without this it stops here
        run_until(reactor, lambda i=i: len(got) == i + 2)  # type: ignore[misc]


def test_a_busy_zmq_socket_leaves_room_for_others(reactor: Reactor, context: zmq.Context) -> None:
    one, two = zmq_pair(context)
    got: list[bytes] = []
    ticks: list[int] = []
    for _ in range(1000):
        two.send(b"x")
    reactor.add_zmq(one, lambda: got.append(one.recv(zmq.NOBLOCK)))
    assert one.poll(2000)
    reactor.call_soon(lambda: ticks.append(len(got)))
    reactor.run_once(0.0)
    assert 0 < len(got) <= module.MAX_ZMQ_CALLS_PER_TURN
    run_until(reactor, lambda: len(got) == 1000)


def test_on_writable_says_when_a_connection_comes_and_goes(reactor: Reactor, context: zmq.Context) -> None:
    dealer, server = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.IMMEDIATE, 1)
    dealer.set_hwm(0)
    changes: list[bool] = []
    reactor.add_zmq(dealer, lambda: dealer.recv(zmq.NOBLOCK), changes.append)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    dealer.connect(f"tcp://127.0.0.1:{port}")
    run_until(reactor, lambda: changes == [True])
    server.close(0)
    run_until(reactor, lambda: changes == [True, False])


def test_removing_a_zmq_socket_in_its_own_callback(reactor: Reactor, context: zmq.Context) -> None:
    one, two = zmq_pair(context)
    got: list[bytes] = []

    def once() -> None:
        got.append(one.recv(zmq.NOBLOCK))
        reactor.remove_zmq(one)
        one.close(0)

    for _ in range(5):
        two.send(b"x")
    reactor.add_zmq(one, once)
    run_until(reactor, lambda: got)
    reactor.touch(one)
    reactor.run_once(0.01)
    assert got == [b"x"] and reactor.errors == 0


def test_a_zmq_socket_closed_without_being_removed_is_dropped(
    reactor: Reactor, context: zmq.Context, caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = zmq_pair(context)
    reactor.add_zmq(one, lambda: None)
    reactor.run_once(0.0)
    one.close(0)
    reactor.touch(one)
    reactor.run_once(0.0)
    assert "closed before it was removed" in caplog.text
    assert not reactor._zmq
