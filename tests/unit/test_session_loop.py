"""The loop that drives a session, with nodes that are only pipes: late grants, timers, signals, other threads."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pipe_node import PipeGroup

from hpc.launchers.loop import SessionLoop
from hpc.launchers.node_group import NodeGroup
from hpc.launchers.session import Session
from hpc.launchers.session_thread import SessionThread
from hpc.launchers.signals import Signals

LIMIT_S = 20.0


class Queue:
    """A scheduler's queue: it grants a node when the test says so."""

    def __init__(self, group: PipeGroup) -> None:
        self.group, self.free, self.cancelled, self.trouble = group, False, False, ""

    def poll(self) -> NodeGroup | None:
        if self.trouble:
            raise RuntimeError(self.trouble)
        return self.group if self.free else None

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def first() -> PipeGroup:
    return PipeGroup()


@pytest.fixture
def session(first: PipeGroup) -> Iterator[Session]:
    session = Session(first, start_timeout_s=LIMIT_S)
    yield session
    if session.state not in ("new", "ended"):
        for group in session.groups:
            if isinstance(group, PipeGroup) and not group.silent:
                group.end()
        session.stop(0.1)


@pytest.fixture
def loop(session: Session, first: PipeGroup) -> Iterator[SessionLoop]:
    """Of a session whose first node is ready."""
    loop = SessionLoop(session, tick_s=0.05)
    session.start()
    first.come()
    assert loop.until(lambda: session.state == "ready", time.monotonic() + LIMIT_S)
    yield loop
    loop.close()


def until(loop: SessionLoop, check: Any) -> None:
    assert loop.until(check, time.monotonic() + LIMIT_S)


def test_nodes_that_are_granted_late_join(loop: SessionLoop, session: Session) -> None:
    late = PipeGroup()
    queue = Queue(late)
    loop.add(queue, overrides={"num_cpus": 3})
    assert not loop.until(lambda: len(session.nodes) > 1, time.monotonic() + 0.2)
    queue.free = True
    until(loop, lambda: len(session.nodes) == 2)
    assert not loop.coming
    late.come()
    until(loop, lambda: len(session.ready()) == 2)
    told = late.heard()
    assert told[0]["op"] == "start" and told[0]["first_node"] == 2 and told[0]["overrides"] == {"num_cpus": 3}


def test_nodes_that_come_one_after_the_other_are_welcomed_together() -> None:
    group = PipeGroup(64)
    session = Session(group, start_timeout_s=LIMIT_S)
    session.start()
    for rank in range(64):
        group.come(rank)
        session.pump()
    assert len(session.wait_ready(LIMIT_S)) == 64
    welcomed = [message["only"] for message in group.heard() if message["op"] == "welcome"]
    assert sorted(rank for ranks in welcomed for rank in ranks) == list(range(64))
    assert len(welcomed) < 16, "each of them is read by all nodes"
    group.end()
    session.stop(0.1)


def test_a_grant_that_fails_is_said_and_the_session_goes_on(loop: SessionLoop, session: Session) -> None:
    refused: list[str] = []
    loop.on_refused = lambda grant, why: refused.append(why)
    queue = Queue(PipeGroup())
    queue.trouble = "the partition is down"
    loop.add(queue)
    until(loop, lambda: bool(refused))
    assert refused == ["the partition is down"] and not loop.coming and session.state == "ready"


def test_what_was_asked_for_is_withdrawn_when_the_session_stops(
    loop: SessionLoop, session: Session, first: PipeGroup
) -> None:
    queue, other = Queue(PipeGroup()), Queue(PipeGroup())
    loop.add(queue)
    loop.add(other)
    loop.withdraw(other)
    assert other.cancelled
    session.begin_stop(1.0, "over")
    until(loop, lambda: queue.cancelled)
    first.end()
    until(loop, lambda: session.state == "ended")
    queue.free = True
    loop.turn()  # a session that has ended can be turned, and gets no nodes
    assert len(session.nodes) == 1


def test_timers_are_called_in_their_order_and_a_cancelled_one_is_not(loop: SessionLoop) -> None:
    called: list[str] = []
    now = time.monotonic()
    loop.tick_s = LIMIT_S  # the wait must end for the timers, not by a tick
    loop.at(now + 0.2, lambda: called.append("second"))
    loop.at(now + 0.1, lambda: called.append("first"))
    loop.at(now + 0.15, lambda: called.append("never")).cancel()
    until(loop, lambda: len(called) == 2)
    assert called == ["first", "second"] and 0.2 <= time.monotonic() - now < LIMIT_S / 2


def test_a_descriptor_is_watched_until_it_is_not(loop: SessionLoop) -> None:
    read_fd, write_fd = os.pipe()
    other_fd, other_write_fd = os.pipe()
    came: list[bytes] = []

    def on_first() -> None:
        came.append(os.read(read_fd, 10))
        loop.unwatch(other_fd)  # which is readable in the same turn
        os.close(other_fd)

    loop.watch(read_fd, on_first)
    loop.watch(other_fd, lambda: came.append(os.read(other_fd, 10)))
    os.write(write_fd, b"a")
    os.write(other_write_fd, b"b")
    until(loop, lambda: bool(came))
    loop.unwatch(read_fd)
    loop.unwatch(read_fd)  # said again it changes nothing
    assert came[0] in (b"a", b"b")
    for fd in (read_fd, write_fd, other_write_fd):
        os.close(fd)


def test_signals_go_to_the_policy(session: Session, first: PipeGroup) -> None:
    seen: list[int] = []
    with Signals() as signals:
        loop = SessionLoop(session, signals=signals, on_signal=seen.append, tick_s=LIMIT_S)
        session.start()
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        until(loop, lambda: signal.SIGUSR1 in seen)
        loop.close()


def test_another_thread_ends_the_wait(loop: SessionLoop) -> None:
    loop.tick_s = LIMIT_S
    woken: list[bool] = []

    def other() -> None:
        with loop.hold():
            woken.append(True)

    threading.Timer(0.1, other).start()
    began = time.monotonic()
    until(loop, lambda: bool(woken))
    assert time.monotonic() - began < LIMIT_S / 2


def test_a_failing_session_ends_its_thread_and_says_so(
    session: Session, first: PipeGroup, capsys: pytest.CaptureFixture[str]
) -> None:
    session.start()
    first.come()
    session.wait_ready(LIMIT_S)
    thread = SessionThread(session)

    def fail() -> None:
        raise ValueError("a mistake")

    thread.loop.each_turn(fail)
    thread.loop.wake()
    assert thread.wait_until(lambda s: bool(thread.failure) and s.state == "stopping", LIMIT_S)
    assert "the session has failed: a mistake" in capsys.readouterr().err
    first.end()
    thread.stop(0.1, "over")
