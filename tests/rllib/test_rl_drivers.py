"""The drivers of the flow with stand-ins for runners and learners: what errors of learners cost, and versions."""

from __future__ import annotations

import math
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from hpc.exceptions import ActorDiedError, ObjectLostError
from hpc.rllib.core.learner.ranks import Done, Rank, Ranks
from hpc.rllib.env import collecting
from hpc.rllib.env.collecting import Collector
from hpc.rllib.env.fragment import Sample
from hpc.rllib.env.members import Member, Members, Policy
from hpc.rllib.env.remote_runners import RemoteRunners
from hpc.rllib.env.watching import Watch
from hpc.rllib.flow import machine as m
from hpc.rllib.flow.driving import StreamDriver
from hpc.rllib.flow.stream import StreamSettings


class Runners:
    """One runner; it answers at once, with the weights that it has."""

    is_streaming = False
    stream_tally: Any = None

    def __init__(self) -> None:
        self.remote, self.answers = self, None
        self.members = SimpleNamespace(up=lambda: [1], any_coming=True)
        self.version = 0
        self.others: list[tuple[Any, Any]] = []
        self._asked: list[int] = []

    def ask(self, runner: int, request: int, kwargs: Any) -> None:
        self._asked.append(request)

    def take(self, request: int) -> tuple[Sample, Any]:
        return Sample({}, 10), f"fragment {request}"

    def push(self, runner: int) -> None:
        """Its weights are new all the time."""

    def set_weights(self, weights: Any, version: int) -> None:
        self.version = version

    def events(self, timeout_s: float | None) -> tuple[list[Any], list[tuple[Any, Any]]]:
        asked, self._asked = self._asked, []
        others, self.others = self.others, []
        return [m.SampleDone(1, request, 10, self.version) for request in asked], others


class Learners:
    """Their updates are done at once; ``errors`` has what is raised instead, by number."""

    def __init__(self, runners: Runners, errors: dict[int, Exception], version: int = 0) -> None:
        self._runners, self._errors, self.weights_version = runners, errors, version
        self.under_way: set[int] = set()
        self.begun: list[Any] = []

    def use_answers(self, answers: Any) -> None:
        """They have no queue of their own."""

    def begin(self, samples: Any, wants_weights: bool) -> int:
        self.begun.append(samples)
        number = len(self.begun)
        self.under_way.add(number)
        self._runners.others.append((("learner", 0, 0, number), number))
        return number

    def finish(self, key: Any, number: int) -> list[Done]:
        self.under_way.discard(number)
        if number in self._errors:
            raise self._errors[number]
        self.weights_version += 1
        return [Done(number, [{}], "weights")]


def driver_of(errors: dict[int, Exception], version: int = 0) -> tuple[StreamDriver, Learners]:
    runners = Runners()
    runners.version = version
    learners = Learners(runners, errors, version)
    return StreamDriver(runners, learners, StreamSettings(batch_steps=20), dict, {"rows": 10}), learners  # type: ignore[arg-type]


def balance(driver: StreamDriver) -> bool:
    flow = driver.report()
    kinds = ("trained_lifetime", "queued", "dropped_lifetime")
    return flow["num_fragments_received_lifetime"] == sum(flow[f"num_fragments_{kind}"] for kind in kinds)


def test_an_update_that_raised_is_lost_and_neither_a_checkpoint_nor_training_waits_for_it() -> None:
    driver, learners = driver_of({3: ValueError("the loss is nan"), 4: ValueError("the loss is nan")})
    driver.advance(2, 10.0)
    for _ in range(2):
        with pytest.raises(ValueError, match="the loss is nan"):
            driver.advance(1, 10.0)
        driver.settle()
        assert not learners.under_way
    driver.advance(5, 10.0)
    assert balance(driver)
    flow = driver.report()
    assert flow["num_fragments_dropped_lifetime"] == 4
    assert flow["num_env_steps_dropped_lifetime"] == 40
    assert set(driver._held) == {request for request, _, _ in driver.stream._ready} | {
        request for batch in driver.stream._updating.values() for request in batch.requests()
    }


def test_fragments_that_were_lost_with_their_node_cost_one_update(caplog: pytest.LogCaptureFixture) -> None:
    driver, _ = driver_of({2: ObjectLostError("its node has died")})
    progress = driver.advance(5, 10.0)
    assert progress.updates == 5
    assert "its node has died" in caplog.text
    assert driver.report()["num_fragments_dropped_lifetime"] == 2
    assert driver.stream.tally.updates_lost == 1
    assert balance(driver)


def test_the_lag_is_counted_from_the_checkpoint_that_learners_have_taken_up() -> None:
    fresh, _ = driver_of({})
    restored, _ = driver_of({}, version=500)
    for driver in (fresh, restored):
        driver.advance(20, 10.0)
    assert restored.report()["policy_lag_mean"] == fresh.report()["policy_lag_mean"] >= 0
    assert restored.report()["policy_lag_max"] == fresh.report()["policy_lag_max"]


def test_samples_that_were_lost_with_their_node_cost_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(refs: Any) -> Any:
        if refs == "lost" or (isinstance(refs, list) and "lost" in refs):
            raise ObjectLostError("its node has died")
        return [Sample({"p": ref}, 10) for ref in refs] if isinstance(refs, list) else Sample({"p": refs}, 10)  # type: ignore[dict-item]

    monkeypatch.setattr(collecting.hpc, "get", get)
    remote = SimpleNamespace(take=lambda request: (Sample({}, 10), "lost" if request == 2 else request))
    collector = Collector(SimpleNamespace(), remote)  # type: ignore[arg-type]
    collector.tally.fragments_received = collector.tally.fragments_trained = 3
    found = collector._fragments_of([1, 2, 3])
    assert [sample.modules["p"] for sample in found] == [1, 3]
    assert (collector.tally.fragments_trained, collector.tally.fragments_stale) == (2, 1)


def test_a_sample_that_came_beside_an_error_is_stale_in_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = object.__new__(RemoteRunners)
    remote._arrived, remote._others, remote._asked = {}, [], {1: "whole", 2: "whole"}
    remote._watch, remote._hang_s, remote._next_look = Watch(None, 30.0), 30.0, math.inf
    remote._news, remote.answers = deque(), SimpleNamespace(next=lambda timeout_s: answers.pop() if answers else [])
    remote.members = SimpleNamespace(  # type: ignore[assignment]
        look=lambda: None,
        worked=lambda runner, life: None,
        up=lambda: [1],
        is_of=lambda runner, life: True,
        failed=_raise,
    )
    answers = [[(("sample", 1, 0, 1), Sample({}, 10)), (("sample", 2, 0, 2), "error")]]

    def get(ref: Any) -> Any:
        if ref == "error":
            raise ValueError("this environment is broken")
        return ref

    monkeypatch.setattr(collecting.hpc, "get", get)
    collector = Collector(SimpleNamespace(num_envs_per_env_runner=1, batch_mode=""), remote)
    for runner in (1, 2):
        collector._pool.add(runner)
        collector._pool.ask(runner)
    with pytest.raises(ValueError, match="is broken"):
        collector.hear()
    remote.forget_arrived()
    collector.hear()
    assert (collector.tally.fragments_stale, collector.tally.fragments_lost, len(collector._pool)) == (1, 1, 1)


def _raise(runner: int, life: int, error: Exception) -> None:
    raise error


def test_weights_that_were_lost_with_the_last_learner_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(ref: Any) -> Any:
        if ref == "lost":
            raise ObjectLostError("its node has died")
        return ref

    class Actor:
        def __getattr__(self, name: str) -> Any:
            return SimpleNamespace(remote=lambda *arguments: "lost" if name == "call" else name)

    monkeypatch.setattr(collecting.hpc, "get", get)
    ranks = object.__new__(Ranks)
    ranks.rows, ranks._whole, ranks._newest = [Rank(0, Actor())], None, {None: "weights"}
    with pytest.raises(RuntimeError, match="restore from a checkpoint"):
        ranks._regroup()


def test_runners_that_die_with_their_node_are_no_row_of_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    members = object.__new__(Members)
    members._policy, members._failures, members._has_sampled = Policy(tolerance=10), 0, False
    members.restarts = members.died = 0
    members.rows = {index: Member(index, object()) for index in range(1, 101)}
    monkeypatch.setattr(members, "_forget", lambda member: setattr(member, "life", member.life + 1))
    monkeypatch.setattr(members, "_restart", lambda member: setattr(member, "has_worked", False))
    for index in members.rows:
        members.worked(index, 0)
    for index in members.rows:
        members.failed(index, 0, ActorDiedError("its node has died"))
    assert members.died == 100
    for index in range(1, 11):
        members.failed(index, 1, ActorDiedError("its process ends at its start"))
    with pytest.raises(ActorDiedError):
        members.failed(11, 1, ActorDiedError("its process ends at its start"))
