"""Algorithms as trials, and with actors: by name in a Tuner, evaluation beside training, fewer runners afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import hpc
from hpc import tune
from hpc.rllib.agent import Agent
from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.connectors.env_to_module import MeanStdFilter
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo gymnasium hpc.rllib.algorithms.ppo"


@pytest.fixture(autouse=True, scope="module")
def session() -> Iterator[None]:
    hpc.init(num_cpus=4)
    yield
    hpc.shutdown()


def config_of():
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=60, minibatch_size=60, num_epochs=1)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[4]))
    )


def test_a_tuner_finds_an_algorithm_by_its_name_and_saves_it(tmp_path):
    config = config_of().training(lr=tune.grid_search([0.25, 0.5]))
    run = tune.RunConfig(name="t", storage_path=str(tmp_path), stop={"training_iteration": 2}, verbose=0)
    results = tune.Tuner("PPO", param_space=config, run_config=run).fit()
    assert [one.error for one in results] == [None, None]
    assert sorted(one.config["lr"] for one in results) == [0.25, 0.5]
    best = results.get_best_result("env_runners/episode_return_mean", "max", filter_nan_and_inf=False)
    assert best.metrics["training_iteration"] == 2 and best.metrics["env_runners"]["num_env_steps_sampled"] >= 60
    with best.checkpoint.as_directory() as path:
        assert Agent.from_checkpoint(path).act(np.zeros(4, np.float32)) in (0, 1)
        again = Algorithm.from_checkpoint(path)
    assert (again.iteration, again.config.lr) == (2, best.config["lr"])
    again.stop()


def test_actors_sample_and_evaluate_and_one_process_goes_on_without_them(tmp_path):
    config = config_of().env_runners(
        num_env_runners=1,
        num_envs_per_env_runner=2,
        env_to_module_connector=lambda env, spaces, device: MeanStdFilter(),
    )
    config.evaluation(
        evaluation_interval=1,
        evaluation_num_env_runners=1,
        evaluation_parallel_to_training=True,
        evaluation_duration="auto",
        evaluation_duration_unit="timesteps",
    )
    algorithm = config.build_algo()
    try:
        for _ in range(2):
            result = algorithm.train()
        assert result["evaluation"]["env_runners"]["num_env_steps_sampled"] >= 100
        assert (result["fault_tolerance"]["num_healthy_workers"], result["evaluation"]["num_healthy_workers"]) == (1, 1)
        path = algorithm.save_to_path(tmp_path)
        count = algorithm.steps_sampled
        observation = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
        action = algorithm.act(observation)
    finally:
        algorithm.stop()
    fewer = {"num_env_runners": 0, "evaluation_num_env_runners": 0, "evaluation_parallel_to_training": False}
    fewer |= {"evaluation_duration": 1, "evaluation_interval": None}
    again = Algorithm.from_checkpoint(path, config=fewer)
    try:
        assert again.act(observation) == action == Agent.from_checkpoint(path).act(observation)
        assert again.train()["env_runners"]["num_env_steps_sampled_lifetime"] >= count + 60
    finally:
        again.stop()
