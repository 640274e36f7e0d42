"""Which heads a supervisor puts another one in the place of: those that were killed, and of those that fail a few."""

from __future__ import annotations

import signal

import pytest

from hpc.core.node import head_restart
from hpc.core.node.head_restart import MAX_KILLS, MAX_RESTARTS, RESTART_WINDOW_S, HeadRestart
from hpc.core.node.spec import NodeSpec


@pytest.fixture
def head(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(head_restart.time, "monotonic", lambda: clock[0])
    place = {"session": "s", "node": 1, "rank": 0, "world": 1, "dir": "/nowhere", "head_rank": 0}
    what = {"interface": "lo", "interface_addr": "127.0.0.1", "cpus": 1.0, "granted_cpus": 1, "mem_bytes": 1 << 30}
    spec = NodeSpec(**place, **what)
    restart = HeadRestart(spec)
    restart.on_bound({"pk": "public", "sk": "secret"})
    yield restart, clock
    restart.close()


def test_heads_that_fail_are_started_again_a_few_times_in_a_while(head):
    restart, clock = head
    assert [restart.why_not(-signal.SIGSEGV, False) for _ in range(MAX_RESTARTS)] == [""] * MAX_RESTARTS
    assert "failed more than 5 times within 60 s" in restart.why_not(-signal.SIGSEGV, False)
    assert not restart.why_not(-signal.SIGKILL, True)  # what others do to it is counted by itself
    clock[0] += RESTART_WINDOW_S
    assert not restart.why_not(1, False)


def test_heads_that_are_killed_are_started_again_and_again(head):
    restart, clock = head
    assert not any(restart.why_not(-signal.SIGKILL, True) for _ in range(MAX_KILLS))
    assert "was killed more than 60 times within 60 s" in restart.why_not(-signal.SIGKILL, True)
    clock[0] += RESTART_WINDOW_S
    assert not restart.why_not(-signal.SIGKILL, True)


def test_one_that_ends_by_itself_is_not(head):
    restart, _ = head
    assert restart.why_not(0, False) == "it ended by itself"
    restart.no_restart = "its journal cannot be written"
    assert restart.why_not(-signal.SIGKILL, True) == "its journal cannot be written"


def test_the_next_head_is_told_why_the_session_drains_and_for_whom(head):
    restart, _ = head
    restart.on_mail({"op": "time", "left_s": 60.0, "drain": "another job needs its nodes", "taken": True})
    restart.on_mail({"op": "time", "left_s": 50.0})
    assert restart.mail == [
        {"op": "time", "left_s": 50.0, "at": 1000.0, "drain": "another job needs its nodes", "taken": True}
    ]
