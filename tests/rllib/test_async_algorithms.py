"""IMPALA, APPO and APEX in a session: short runs whose counts must be right, with deaths in the middle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import hpc
from hpc.rllib.algorithms.apex_dqn import ApexDQNConfig
from hpc.rllib.algorithms.appo import APPO, APPOConfig
from hpc.rllib.algorithms.impala import IMPALAConfig
from hpc.rllib.algorithms.impala.impala_learner import sequences
from hpc.rllib.flow.machine import Learn

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo gymnasium hpc.rllib.algorithms.ppo"


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    hpc.init(num_cpus=4)
    yield
    hpc.shutdown()


def small(config: Any) -> Any:
    return (
        config.environment("CartPole-v1")
        .env_runners(num_env_runners=2, num_envs_per_env_runner=4, rollout_fragment_length=25)
        .learners(num_learners=0)
        .rl_module(model_config={"fcnet_hiddens": [32]})
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)
        .debugging(seed=1)
    )


def flat(weights: dict[str, Any]) -> np.ndarray:
    parts = weights["default_policy"]
    return np.concatenate([np.asarray(parts[name]).reshape(-1) for name in sorted(parts)])


def train_until(algo: Any, is_over: Any, limit_s: float = 90.0) -> dict[str, Any]:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        result: dict[str, Any] = algo.train()
        if is_over(result):
            return result
    raise AssertionError(f"it is not over after {limit_s:g} s: {result.get('flow')}")


def check_balance(flow: dict[str, Any]) -> None:
    kinds = ("trained_lifetime", "queued", "dropped_lifetime")
    assert flow["num_fragments_received_lifetime"] == sum(flow[f"num_fragments_{kind}"] for kind in kinds)


def test_impala_loses_a_killed_runners_fragment_and_nothing_else(session: None) -> None:
    algo = small(IMPALAConfig()).training(train_batch_size_per_learner=100).build_algo()
    result = train_until(algo, lambda result: result["flow"]["num_fragments_trained_lifetime"] >= 40)
    check_balance(result["flow"])
    assert result["flow"]["policy_lag_mean"] <= 2
    (pid,) = algo.env_runner_group.foreach_env_runner(
        lambda runner: os.getpid(), local_env_runner=False, remote_worker_ids=[1]
    )
    os.kill(pid, signal.SIGKILL)
    result = train_until(algo, lambda result: result["fault_tolerance"]["num_env_runners_died_lifetime"] == 1)
    result = train_until(algo, lambda result: result["fault_tolerance"]["num_healthy_workers"] == 2)
    check_balance(result["flow"])
    assert result["flow"]["num_fragments_lost_lifetime"] <= 1
    assert result["fault_tolerance"]["num_remote_worker_restarts"] == 1
    path = algo.save_to_path()
    before = flat(algo.get_weights())
    train_until(algo, lambda result: not np.array_equal(flat(algo.get_weights()), before))
    algo.restore_from_path(path)
    assert np.array_equal(flat(algo.get_weights()), before)
    result = algo.train()
    assert result["learners"]["default_policy"]["num_module_steps_trained_lifetime"] > 0
    algo.stop()


def test_appo_trains_twice_with_each_fragment(session: None) -> None:
    config = small(APPOConfig()).training(train_batch_size_per_learner=100, use_kl_loss=True)
    algo = config.training(target_network_update_freq=0.125).build_algo()
    result = train_until(algo, lambda result: result["flow"]["num_fragments_trained_lifetime"] >= 20)
    check_balance(result["flow"])
    learned = result["learners"]["default_policy"]
    assert learned["num_module_steps_trained_lifetime"] > 1.5 * result["num_env_steps_sampled_lifetime"] * 20 / 25
    assert learned["num_target_updates"] >= 1
    assert np.isfinite(learned["mean_kl_loss"])
    algo.stop()


def test_apex_holds_the_ratio(session: None) -> None:
    config = small(ApexDQNConfig()).training(
        num_steps_sampled_before_learning_starts=400,
        train_batch_size_per_learner=64,
        num_replay_buffer_shards=1,
        replay_buffer_config={"capacity": 20_000},
    )
    algo = config.build_algo()
    result = train_until(algo, lambda result: result["flow"]["num_env_steps_stored_lifetime"] >= 12_000)
    assert result["flow"]["replay_ratio"] == pytest.approx(1.0, rel=0.05)
    assert result["replay_buffer"]["shard_0"]["num_env_steps_stored"] >= 12_000
    epsilons = algo.env_runner_group.foreach_env_runner(lambda runner: runner.module.epsilon(0), local_env_runner=False)
    assert epsilons == pytest.approx([0.4, 0.4**8])
    algo.stop()


def test_apex_goes_on_without_a_shard_that_was_killed(session: None) -> None:
    config = small(ApexDQNConfig()).training(
        num_steps_sampled_before_learning_starts=200,
        train_batch_size_per_learner=32,
        num_replay_buffer_shards=2,
        replay_buffer_config={"capacity": 20_000},
    )
    algo = config.build_algo()
    train_until(algo, lambda result: result["flow"]["num_env_steps_stored_lifetime"] >= 1000)
    hpc.kill(algo._driver._shards[0].actor)
    assert len(algo._driver.shard_metrics()) == 2
    updates = algo._driver.flow.tally.updates
    result = train_until(algo, lambda result: algo._driver.flow.tally.updates >= updates + 50)
    flow = result["flow"]
    assert flow["num_shards_died_lifetime"] == 1
    kinds = ("stored_lifetime", "queued", "dropped_lifetime")
    assert flow["num_fragments_received_lifetime"] == sum(flow[f"num_fragments_{kind}"] for kind in kinds)
    draws = algo._driver.flow
    waiting = sum(isinstance(command, Learn) for command in algo._driver._waiting)
    assert len(algo._driver._batches) == draws._ahead + waiting
    algo.stop()


@pytest.mark.parametrize("config", [IMPALAConfig(), APPOConfig()], ids=["impala", "appo"])
def test_without_actors_two_runs_are_equal(config: Any) -> None:
    def run() -> np.ndarray:
        own = small(config.copy(copy_frozen=False)).env_runners(num_env_runners=0)
        algo = own.training(train_batch_size_per_learner=100).build_algo()
        for _ in range(3):
            algo.train()
        weights = flat(algo.get_weights())
        algo.stop()
        return weights

    assert np.array_equal(run(), run())


def test_target_policies_go_on_moving_after_a_restore(tmp_path: Any) -> None:
    config = small(APPOConfig()).env_runners(num_env_runners=0)
    config.training(train_batch_size_per_learner=100, target_network_update_freq=0.125)
    algo = config.build_algo()
    for _ in range(5):
        algo.train()
    path = algo.save_to_path(tmp_path)
    trained, moved = algo._trained, algo.learner_group._learner._last_update_ts_by_mid["default_policy"]
    algo.stop()
    again = APPO.from_checkpoint(path)
    try:
        assert again._trained == trained >= 500
        for _ in range(3):
            again.train()
        assert again._trained >= trained + 300
        assert again.learner_group._learner._last_update_ts_by_mid["default_policy"] > moved >= 200
    finally:
        again.stop()
    fresh = config.build_algo()
    try:
        fresh.restore_from_path(f"{path}/learner_group", component="learner_group")
        for _ in range(4):
            fresh.train()
        assert 200 <= fresh.learner_group._learner._last_update_ts_by_mid["default_policy"] < moved
    finally:
        fresh.stop()


def test_a_stateful_module_learns_from_sequences() -> None:
    config = small(IMPALAConfig()).env_runners(num_env_runners=0).training(train_batch_size_per_learner=100)
    algo = config.rl_module(model_config={"fcnet_hiddens": [16], "use_lstm": True, "max_seq_len": 8}).build_algo()
    before = flat(algo.get_weights())
    result = algo.train()
    assert np.isfinite(result["learners"]["default_policy"]["total_loss"])
    assert not np.array_equal(flat(algo.get_weights()), before)
    algo.stop()


def test_sequences_are_pieces_of_episodes_with_what_comes_after_them() -> None:
    obs = np.arange(7 * 2).reshape(7, 2)
    columns = {"obs": obs, "rewards": obs[:6], "loss_mask": np.ones((6, 2), bool)}
    made = sequences(columns, {"h": obs[:6]}, [(0, 0, 5), (1, 2, 6)], 3)
    assert made["loss_mask"].T.tolist() == [[True] * 3, [True, True, False], [True] * 3, [True, False, False]]
    assert made["obs"].T.tolist() == [[0, 2, 4, 6], [6, 8, 10, 10], [5, 7, 9, 11], [11, 13, 13, 13]]
    assert made["state_in"]["h"].tolist() == [[0, 6, 5, 11]]


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="vtrace=False"):
        IMPALAConfig().training(vtrace=False).validate()
    with pytest.raises(ValueError, match="circular_buffer_num_batches"):
        APPOConfig().training(learner_queue_size=3).validate()
    with pytest.raises(ValueError, match="training_intensity"):
        ApexDQNConfig().environment("CartPole-v1").training(training_intensity=0).validate()
