"""Groups of env runners in a session: rounds, weights, deaths, restarts."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

import hpc
from hpc.rllib.algorithms.impala import IMPALAConfig
from hpc.rllib.env.env_runner_group import EnvRunnerGroup
from hpc.rllib.env.remote_runner import by_module
from tests.rllib.stand_in_runner import WIDTH, StandInRunner, config

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo gymnasium hpc.rllib.algorithms.ppo"


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    hpc.init(num_cpus=4)
    yield
    hpc.shutdown()


def pids(group: EnvRunnerGroup) -> list[int]:
    return group.foreach_env_runner("pid", local_env_runner=False)


def test_a_local_group_needs_no_session() -> None:
    group = EnvRunnerGroup(config=config(num_env_runners=0))
    samples = group.collect(steps=100)
    assert sum(sample.env_steps for sample in samples) == 100
    assert isinstance(group.local_env_runner, StandInRunner)
    assert not hpc.is_initialized()
    group.stop()


def test_rounds_weights_and_calls(session: None) -> None:
    group = EnvRunnerGroup(config=config(num_env_runners=3, slow={3: 0.01}))
    samples = group.collect(steps=1200)
    assert sum(sample.env_steps for sample in samples) >= 1200
    assert {sample.runner for sample in samples} >= {1, 2}
    assert all(sample.modules["default_policy"]["obs"].shape[1] == WIDTH for sample in samples)
    weights = {"default_policy": {"w": np.arange(300_000, dtype=np.float32)}}
    group.remote.set_weights(hpc.put(weights))
    samples = group.collect(steps=1200)
    assert {sample.version for sample in samples} == {1}
    assert group.foreach_env_runner(lambda runner: float(runner.weights["default_policy"]["w"].sum())) == pytest.approx(
        [float(weights["default_policy"]["w"].sum())] * 3
    )
    assert group.get_spaces() == {"default_policy": ("observations", "actions")}
    assert sum(len(sample.episodes) for sample in group.collect(episodes=10)) == 10
    assert group.foreach_env_runner_async("ping", "hello") == 3
    assert group.foreach_env_runner_async("ping", "hello") == 0
    found = []
    while len(found) < 3:
        found += group.fetch_ready_async_reqs(tags="hello", timeout_seconds=10)
    assert sorted(found) == [(1, "pong"), (2, "pong"), (3, "pong")]
    assert group.num_in_flight_async_reqs() == 0
    group.stop()


def test_actors_have_the_variables_of_the_configuration(session: None) -> None:
    IMPALAConfig().python_environment(extra_python_environs_for_worker={"SEEN": "1"}).validate()
    group = EnvRunnerGroup(config=config(num_env_runners=1, extra_python_environs_for_worker={"SEEN": 1}))
    assert group.foreach_env_runner(lambda runner: os.environ.get("SEEN")) == ["1"]
    group.stop()


def test_weights_of_some_modules_leave_those_of_others_as_they_were(session: None) -> None:
    def weights(runner: StandInRunner) -> dict[str, int]:
        return runner.weights

    group = EnvRunnerGroup(config=config(num_env_runners=1))
    assert group.remote is not None
    group.remote.set_weights(hpc.put({"a": 1, "b": 1, "c": 1}))
    group.remote.set_weights(hpc.put({"a": 2}), modules=["a"])
    group.remote.set_weights(hpc.put({"b": 3}), modules=["b"])
    assert group.foreach_env_runner(weights, local_env_runner=False) == [{"a": 2, "b": 3, "c": 1}]
    group.remote.set_weights(hpc.put({"a": 4}), modules=["a"])
    assert group.foreach_env_runner(weights, local_env_runner=False) == [{"a": 4}]
    assert by_module(group.remote.weights) == {"a": 4, "b": 3, "c": 1}
    (pid,) = pids(group)
    os.kill(pid, signal.SIGKILL)
    group.collect(steps=100)
    assert group.foreach_env_runner(weights, local_env_runner=False) == [{"a": 4, "b": 3, "c": 1}]
    group.stop()


def test_spaces_are_known_though_nobody_has_waited_for_runners(session: None) -> None:
    group = EnvRunnerGroup(config=config(validate_env_runners_after_construction=False), local_env_runner=False)
    assert group.get_spaces() == {"default_policy": ("observations", "actions")}
    assert sum(sample.env_steps for sample in group.collect(steps=400)) >= 400
    group.stop()


def test_calls_that_nobody_waits_for_are_not_kept(session: None) -> None:
    group = EnvRunnerGroup(config=config(num_env_runners=1))
    for _ in range(5):
        group.foreach_env_runner("ping", timeout_seconds=0)
    assert group.num_in_flight_async_reqs() == 0
    assert group.fetch_ready_async_reqs(timeout_seconds=0.5) == []
    (pid,) = pids(group)
    group.foreach_env_runner(lambda runner: 1 / 0, timeout_seconds=0)
    assert sum(sample.env_steps for sample in group.collect(steps=400)) >= 400
    assert pids(group) != [pid]
    group.stop()


def test_environments_are_reset_once_in_a_round_of_steps(session: None) -> None:
    group = EnvRunnerGroup(config=config(num_env_runners=1))
    samples = group.collect(steps=2000, force_reset=True)
    assert len(samples) > 1
    assert group.foreach_env_runner(lambda runner: runner.resets) == [1]
    group.stop()


def test_killed_runners_cost_a_fragment_each_and_come_back(session: None) -> None:
    group = EnvRunnerGroup(config=config(num_env_runners=4, row_s=0.002))
    group.collect(steps=800)
    victims = pids(group)[:2]
    restored: list[int] = []
    began = time.monotonic()
    for number in range(4):
        if number == 1:
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
        samples = group.collect(steps=800)
        assert sum(sample.env_steps for sample in samples) >= 800
    assert time.monotonic() - began < 20
    while len(restored) < 2:
        restored += group.probe_unhealthy_env_runners()
    assert sorted(restored) == [1, 2]
    counters = group.counters()
    assert counters["num_env_runners_died_lifetime"] == 2
    assert counters["num_fragments_lost_lifetime"] <= 2
    assert group.num_remote_worker_restarts() == 2
    assert group.foreach_env_runner(lambda runner: runner.restarts) == [1, 1, 0, 0]
    group.stop()


def test_a_runner_whose_code_raises_is_made_anew_or_the_error_is_raised(session: None) -> None:
    def break_it(runner: StandInRunner) -> None:
        runner.is_broken = True

    group = EnvRunnerGroup(config=config())
    group.collect(steps=100)
    group.foreach_env_runner(break_it, remote_worker_ids=[1])
    assert sum(sample.env_steps for sample in group.collect(steps=400)) >= 400
    group.stop()
    group = EnvRunnerGroup(config=config(restart_failed_env_runners=False))
    group.foreach_env_runner(break_it)
    with pytest.raises(RuntimeError, match="this environment is broken"):
        group.collect(steps=400)
    # A program that catches it hears at once what is left: nobody waits for an answer of those that have failed.
    with pytest.raises(RuntimeError, match=r"is broken|all 2 env runners have failed"):
        group.collect(steps=400)
    with pytest.raises(RuntimeError, match="all 2 env runners have failed"):
        group.collect(steps=400)
    group.stop()


def test_each_runner_may_begin_anew_so_often(session: None) -> None:
    group = EnvRunnerGroup(config=config(row_s=0.002, max_num_env_runner_restarts=1))
    for victim in (1, 2):
        group.collect(steps=100)
        (pid,) = group.foreach_env_runner("pid", local_env_runner=False, remote_worker_ids=[victim])
        os.kill(pid, signal.SIGKILL)
        while group.num_remote_worker_restarts() < victim or group.num_healthy_remote_env_runners() < 2:
            group.probe_unhealthy_env_runners()
            group.collect(steps=100)
    assert group.foreach_env_runner(lambda runner: runner.restarts, local_env_runner=False) == [1, 1]
    group.stop()


def test_a_runner_that_hangs_is_lost_and_comes_back(session: None) -> None:
    def hang(runner: StandInRunner) -> None:
        runner.config.slow = {1: 1000.0}

    settings = {"sample_timeout_s": 0.5, "env_runner_health_probe_timeout_s": 1.0, "row_s": 0.002}
    group = EnvRunnerGroup(config=config(**settings))
    group.collect(steps=400)
    (victim, other) = pids(group)
    group.foreach_env_runner(hang, remote_worker_ids=[1], local_env_runner=False)
    while group.num_remote_worker_restarts() < 1 or group.num_healthy_remote_env_runners() < 2:
        group.collect(steps=400)
    now = pids(group)
    assert now[1] == other and now[0] != victim
    assert group.counters()["num_env_runners_died_lifetime"] == 1
    group.stop()


def test_a_constructor_that_raises_ends_the_group(session: None) -> None:
    with pytest.raises(ZeroDivisionError):
        EnvRunnerGroup(config=config(env_runner_cls=Unmakeable))


class Unmakeable:
    """Nobody can make one."""

    def __init__(self, **kwargs: object) -> None:
        raise ZeroDivisionError("no environment of this kind")
