"""Which runners hang, under virtual time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hpc.rllib.env import remote_runners
from hpc.rllib.env.members import Member, Members, Policy
from hpc.rllib.env.remote_runners import RemoteRunners
from hpc.rllib.env.watching import Watch


def run(watch: Watch, seconds: float, rows: object, begin: float = 0.0) -> float | None:
    """When runner 1 is found to hang; ``rows`` gives what it says at a time, None: no answer."""
    now = begin
    while now < begin + seconds:
        asks, hang = watch.look(now)
        if hang:
            return now
        for runner in asks:
            said = rows(now)  # type: ignore[operator]
            if said is not None:
                watch.told(runner, said, now)
        now += 0.5
    return None


def test_a_runner_that_makes_no_row_or_does_not_answer_hangs() -> None:
    for rows in (lambda now: 7, lambda now: None, lambda now: min(int(now), 7)):
        watch = Watch(60.0, 30.0)
        watch.ask(1, 5, 0.0)
        found = run(watch, 200.0, rows)
        assert found is not None and 90.0 <= found <= 100.0


def test_a_slow_runner_that_makes_rows_does_not_hang_nor_one_that_counts_none() -> None:
    for rows in (lambda now: int(now / 20), lambda now: 0):
        watch = Watch(60.0, 30.0)
        watch.ask(1, 5, 0.0)
        assert run(watch, 1000.0, rows) is None


def test_a_sample_that_comes_ends_the_suspicion() -> None:
    watch = Watch(60.0, 30.0)
    watch.ask(1, 5, 0.0)
    watch.ask(1, 6, 0.0)
    assert run(watch, 85.0, lambda now: 7) is None
    watch.answer(1, 5)
    assert run(watch, 25.0, lambda now: 7, 85.0) is None
    watch.answer(1, 6)
    assert run(watch, 500.0, lambda now: 7, 110.0) is None
    watch.ask(1, 7, 700.0)
    watch.forget(1)
    assert run(watch, 500.0, lambda now: None, 700.0) is None


def test_without_a_limit_of_samples_nobody_is_asked() -> None:
    watch = Watch(None, 30.0)
    watch.ask(1, 5, 0.0)
    assert run(watch, 10_000.0, lambda now: None) is None


def test_runners_that_are_made_anew_have_their_time_to_come_up() -> None:
    members = object.__new__(Members)
    members._policy = Policy(most_start_s=100.0)
    first = Member(1, actor=SimpleNamespace(), life=0, began=0.0)
    again = Member(2, actor=SimpleNamespace(), life=1, began=50.0)
    up = Member(3, actor=SimpleNamespace(), life=1, began=0.0, is_up=True)
    members.rows = {1: first, 2: again, 3: up}
    assert members.late(149.0) == []
    ((index, error),) = members.late(150.0)
    assert index == 2 and "env_runner_restore_timeout_s" in str(error)


def test_an_answer_that_lay_unread_tells_of_the_time_of_its_question() -> None:
    watch = Watch(60.0, 30.0)
    watch.ask(1, 5, 0.0)
    assert watch.look(60.0) == ([1], [])
    watch.told(1, 7, 60.0)
    assert watch.look(68.0) == ([1], [])
    watch.told(1, 7, 300.0)
    assert watch.look(300.0) == ([1], [])


def test_runners_are_not_lost_for_what_the_program_did_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that pauses reads late what came in time: a sample, a count of rows, a runner that is up."""
    now, queue = [0.0], []
    monkeypatch.setattr(remote_runners, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(remote_runners, "hpc", SimpleNamespace(get=lambda value: value))
    members = object.__new__(Members)
    members._policy, members._has_sampled, members._failures, members.back = Policy(most_start_s=50.0), False, 0, []
    actor = SimpleNamespace(rows=SimpleNamespace(remote=lambda: 7))
    members.rows = {1: Member(1, actor=actor, is_up=True), 2: Member(2, actor=SimpleNamespace(), life=1)}
    monkeypatch.setattr("hpc.rllib.env.members.hpc", SimpleNamespace(get=lambda value: value))
    runners = object.__new__(RemoteRunners)
    runners.members, runners._hang_s, runners._watch, runners._next_look = members, 30.0, Watch(60.0, 30.0), 0.0
    runners._asked, runners._arrived, runners._news, runners._others = {5: "fragments"}, {}, [], []

    def taken(_: float) -> list[object]:
        found, queue[:] = list(queue), []
        return found

    runners.answers = SimpleNamespace(next=taken, expect=lambda key, value: queue.append((key, value)))
    lost: list[int] = []
    monkeypatch.setattr(runners, "fail", lambda runner, life, error: lost.append(runner))
    runners._watch.ask(1, 5, 0.0)
    queue.append((("up", 2, 1), None))
    for now[0] in (70.0, 140.0):
        runners._look()
    assert not lost and members.up() == [1, 2]
    queue.append((("sample", 1, 0, 5), SimpleNamespace(env_steps=1, versions=(), version=0)))
    now[0] = 200.0
    runners._look()
    assert not lost and 5 in runners._arrived
