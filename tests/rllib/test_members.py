"""Algorithms with several modules: which learn, their own settings, and modules that come and go."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

import hpc
from hpc.rllib.agent import Agent
from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.core.rl_module.rl_module import RLModuleSpec
from hpc.rllib.env.multi_agent_env import make_multi_agent

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo gymnasium hpc.rllib.algorithms.ppo"

TwoPoles = make_multi_agent("CartPole-v1")


def config_of(**settings):
    return (
        PPOConfig()
        .environment(TwoPoles, env_config={"num_agents": 2})
        .env_runners(num_env_runners=0)
        .training(train_batch_size_per_learner=60, minibatch_size=60, num_epochs=1, lr=0.01)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[4]))
        .multi_agent(policies={"p0", "p1"}, policy_mapping_fn=lambda agent_id, episode, **kw: f"p{agent_id}")
        .debugging(seed=3)
        .update_from_dict(settings)
    )


@pytest.fixture
def built():
    made = []

    def build(config):
        made.append(config.build_algo())
        return made[-1]

    yield build
    for algorithm in made:
        algorithm.stop()


def changed(before, after):
    return {name for name in before if any(not np.array_equal(before[name][k], after[name][k]) for k in before[name])}


def test_modules_learn_and_are_reported_by_their_names(built):
    algorithm = built(config_of())
    before = algorithm.get_weights()
    result = algorithm.train()
    assert changed(before, algorithm.get_weights()) == {"p0", "p1"}
    assert set(result["learners"]) >= {"p0", "p1", "__all_modules__"}
    runners = result["env_runners"]
    assert set(runners["num_module_steps_sampled"]) == {"p0", "p1"} and set(runners["num_agent_steps_sampled"]) == {
        "0",
        "1",
    }
    assert set(runners["module_episode_returns_mean"]) == {"p0", "p1"}
    total = sum(runners["agent_episode_returns_mean"].values())
    assert total == pytest.approx(runners["episode_return_mean"])


def test_only_modules_that_are_to_learn_do(built):
    algorithm = built(config_of(policies_to_train=["p1"]))
    before = algorithm.get_weights()
    algorithm.train()
    assert changed(before, algorithm.get_weights()) == {"p1"}


def test_a_module_comes_and_goes(built):
    algorithm = built(config_of().evaluation(evaluation_interval=1, evaluation_duration=1))
    algorithm.train()
    like = algorithm.get_module("p0")
    spec = RLModuleSpec(
        module_class=type(like),
        observation_space=like.observation_space,
        action_space=like.action_space,
        model_config=like.model_config,
    )
    made = algorithm.add_module(
        "p2",
        spec,
        config_overrides={"lr": 0.5},
        new_agent_to_module_mapping_fn=lambda agent_id, episode, **kw: "p2" if agent_id == 1 else "p0",
        new_should_module_be_updated=["p2"],
    )
    assert sorted(made.rl_module_specs) == ["p0", "p1", "p2"] and algorithm.get_module("p2") is not None
    assert algorithm.config.get_config_for_module("p2").lr == 0.5
    before = algorithm.get_weights()
    for _ in range(3):
        result = algorithm.train()
    assert changed(before, algorithm.get_weights()) == {"p2"}
    assert "p2" in result["env_runners"]["num_module_steps_sampled"]
    made = algorithm.remove_module(
        "p1",
        new_agent_to_module_mapping_fn=lambda agent_id, episode, **kw: "p0",
        new_should_module_be_updated=["p0"],
    )
    assert sorted(made.rl_module_specs) == ["p0", "p2"] and algorithm.get_module("p1") is None
    before = algorithm.get_weights()
    algorithm.train()
    assert changed(before, algorithm.get_weights()) == {"p0"}


@pytest.fixture
def session():
    hpc.init(num_cpus=4)
    yield
    hpc.shutdown()


def test_processes_that_begin_anew_have_the_modules_that_came(session, built):
    config = config_of().env_runners(num_env_runners=1).learners(num_learners=2)
    config.fault_tolerance(delay_between_env_runner_restarts_s=0)
    algorithm = built(config)
    like = algorithm.get_module("p0")
    spec = RLModuleSpec(type(like), like.observation_space, like.action_space, model_config=like.model_config)
    algorithm.add_module(
        "p2",
        spec,
        config_overrides={"lr": 0.5},
        new_agent_to_module_mapping_fn=lambda agent_id, episode, **kw: "p2",
    )
    algorithm.remove_module("p1")
    (runner,) = algorithm.env_runner_group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)
    learner = algorithm.learner_group.foreach_learner(lambda learner: os.getpid())[1]
    os.kill(runner, signal.SIGKILL)
    os.kill(learner, signal.SIGKILL)
    until_s = time.monotonic() + 60
    while True:
        result = algorithm.train()
        rates = algorithm.learner_group.foreach_learner(
            lambda learner: (learner.get_optimizer("p2").param_groups[0]["lr"], os.getpid())
        )
        if len(rates) == 2 or time.monotonic() > until_s:
            break
    assert result["env_runners"]["num_module_steps_sampled"].keys() == {"p2"}, "it maps agents as it was told to"
    assert algorithm.env_runner_group.num_remote_worker_restarts() == 1
    modules = algorithm.env_runner_group.foreach_env_runner(lambda runner: sorted(runner.module.keys()))
    assert modules and all(found == ["p0", "p2"] for found in modules)
    (acting,) = algorithm.env_runner_group.foreach_env_runner(
        lambda runner: runner.module["p0"].get_state(), local_env_runner=False
    )
    newest = algorithm.get_weights()["p0"]
    assert acting and all(np.array_equal(acting[name], newest[name]) for name in acting), "p0 was not updated lately"
    assert [rate for rate, _ in rates] == [0.5, 0.5] and learner not in [pid for _, pid in rates]


def test_a_runner_that_is_made_anew_has_the_modules_of_now(built):
    hpc.init(num_cpus=2)
    try:
        algorithm = built(config_of().env_runners(num_env_runners=1))
        like = algorithm.get_module("p0")
        spec = RLModuleSpec(type(like), like.observation_space, like.action_space, model_config=like.model_config)
        algorithm.add_module(
            "p2", spec, new_agent_to_module_mapping_fn=lambda agent_id, episode, **kw: f"p{2 * int(agent_id)}"
        )
        algorithm.remove_module("p1")
        group = algorithm.env_runner_group
        (pid,) = group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)
        os.kill(pid, signal.SIGKILL)
        before = algorithm.get_weights()
        result = algorithm.train()
        assert group.num_remote_worker_restarts() == 1
        assert set(result["env_runners"]["num_module_steps_sampled"]) == {"p0", "p2"}
        modules = group.foreach_env_runner(lambda runner: sorted(runner.module.keys()), local_env_runner=False)
        assert modules == [["p0", "p2"]]
        assert changed(before, algorithm.get_weights()) == {"p0", "p2"}
        algorithm.stop()
    finally:
        hpc.shutdown()


def test_only_modules_that_learn_are_saved_where_that_is_wanted(built, tmp_path):
    config = config_of(policies_to_train=["p1"]).checkpointing(checkpoint_trainable_policies_only=True)
    algorithm = built(config)
    algorithm.train()
    modules = tmp_path / "learner_group" / "learner" / "rl_module"
    again = Algorithm.from_checkpoint(algorithm.save_to_path(tmp_path), config={"seed": 4})
    try:
        assert (modules / "p1").is_dir() and not (modules / "p0").exists()
        assert changed(algorithm.get_weights(), again.get_weights()) == {"p0"}
    finally:
        again.stop()


def test_modules_that_cannot_come_or_go_are_named(built):
    algorithm = built(config_of())
    with pytest.raises(KeyError, match="there are p0, p1"):
        algorithm.remove_module("p7")
    with pytest.raises(ValueError, match="adds to nothing"):
        algorithm.add_module("p2", None, add_to_learners=False, add_to_env_runners=False, add_to_eval_env_runners=False)
    one = built(PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0))
    with pytest.raises(RuntimeError, match="has one module"):
        one.add_module("p2", None)


def test_checkpoints_and_agents_know_who_has_which_module(built, tmp_path):
    algorithm = built(config_of())
    algorithm.train()
    path = algorithm.save_to_path(tmp_path)
    again = Algorithm.from_checkpoint(path)
    try:
        assert changed(algorithm.get_weights(), again.get_weights()) == set()
        agent = Agent.from_checkpoint(path)
        for observation in np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32):
            for name in (0, 1):
                acts = [one.act(observation, agent_id=name) for one in (algorithm, again, agent)]
                assert acts[0] == acts[1] == acts[2]
                assert acts[0] == agent.act(observation, agent_id=name, module_id=f"p{name}")
        with pytest.raises(ValueError, match="say by agent_id"):
            agent.act(np.zeros(4, np.float32))
    finally:
        again.stop()
