"""States of connectors of remote runners: in evaluations, and in checkpoints, without a runner in this process."""

from __future__ import annotations

import pytest

import hpc
from hpc.rllib.agent import Agent
from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.connectors.env_to_module import MeanStdFilter
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.env.connector_states import Pipelines

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo gymnasium hpc.rllib.algorithms.ppo"


@pytest.fixture(scope="module")
def session():
    hpc.init(num_cpus=2)
    yield
    hpc.shutdown()


def seen_by(runner):
    """How many observations the filter of a runner, or of pipelines, has seen."""
    pipeline = runner.by_name["env_to_module_connector"] if isinstance(runner, Pipelines) else runner._env_to_module
    return next(piece._stats[None][0].count for piece in pipeline.connectors if type(piece).__name__ == "MeanStdFilter")


def config_of():
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(
            num_env_runners=1,
            create_local_env_runner=False,
            env_to_module_connector=lambda env, spaces, device: MeanStdFilter(),
        )
        .training(train_batch_size_per_learner=60, minibatch_size=60, num_epochs=1)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[4]))
        .evaluation(evaluation_interval=1, evaluation_duration=1)
        .debugging(seed=3)
    )


def test_states_are_in_evaluations_and_checkpoints_without_a_runner_in_this_process(session, tmp_path):
    begun = []
    config = config_of()
    config.callbacks(on_evaluate_start=lambda algorithm, **kwargs: begun.append(seen_by(algorithm.eval_env_runner)))
    algorithm = config.build_algo()
    try:
        assert algorithm.env_runner is None
        algorithm.train()
        had = seen_by(algorithm.env_runner_group.connectors)
        assert begun == [had] and had >= 60, "the first evaluation has what this iteration has seen"
        path = algorithm.save_to_path(tmp_path / "one")
    finally:
        algorithm.stop()
    assert Agent.from_checkpoint(path).act([0.0] * 4) in (0, 1)
    for changed in ({}, {"create_local_env_runner": True}):
        again = Algorithm.from_checkpoint(path, config={"evaluation_interval": None, **changed})
        try:
            assert again.env_runner_group.foreach_env_runner(seen_by, local_env_runner=False) == [had]
            assert seen_by(again.env_runner_group.connectors) == had
        finally:
            again.stop()
