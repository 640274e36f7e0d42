"""An algorithm in one process: iterations, results, callbacks, evaluation, checkpoints, acting. No session is there."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest

import hpc
from hpc.rllib.agent import Agent
from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.algorithms.parts.resources import missing_of
from hpc.rllib.algorithms.ppo import PPO, PPOConfig
from hpc.rllib.callbacks.callbacks import RLlibCallback
from hpc.rllib.connectors.env_to_module import MeanStdFilter, PrevActionsPrevRewards
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.env.multi_agent_env import make_multi_agent
from hpc.rllib.execution.rollout_ops import synchronous_parallel_sample

#: What the workers of these tests import.
WORKER_IMPORTS = "torch torch._dynamo gymnasium hpc.rllib.algorithms.ppo"


class Count(gym.Env):
    """Ten steps; the action is worth its number; action 0 is not allowed where a mask is wanted."""

    def __init__(self, config=None):
        self.config = dict(config or {})
        seen = gym.spaces.Box(-10.0, 10.0, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(3)
        self.masked = self.config.get("masked", False)
        mask = gym.spaces.Box(0.0, 1.0, (3,), np.float32)
        self.observation_space = gym.spaces.Dict({"action_mask": mask, "seen": seen}) if self.masked else seen

    def look(self):
        seen = np.array([self.t / 10, self.np_random.normal()], np.float32)
        return {"action_mask": np.array([0, 1, 1], np.float32), "seen": seen} if self.masked else seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def step(self, action):
        assert not (self.masked and action == 0), "a masked action"
        self.t += 1
        return self.look(), float(action), self.t == 10, False, {}


def config_of(**env):
    return (
        PPOConfig()
        .environment(Count, env_config=env)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=60, minibatch_size=30, num_epochs=1, lr=0.01)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[8]))
        .debugging(seed=7)
    )


@pytest.fixture
def built():
    """Builds algorithms, and stops them in the end."""
    made = []

    def build(config):
        made.append(config.build_algo())
        return made[-1]

    yield build
    for algorithm in made:
        algorithm.stop()
    assert not hpc.is_initialized()


def same(left, right):
    return all(np.array_equal(left[m][n], right[m][n]) for m in left for n in left[m])


def test_two_algorithms_of_one_seed_are_equal_bit_by_bit(built):
    one, other = built(config_of()), built(config_of())
    for algorithm in (one, other):
        for _ in range(2):
            result = algorithm.train()
    assert same(one.get_weights(), other.get_weights())
    assert not same(one.get_weights(), built(config_of()).get_weights()), "it has learnt something"
    assert result["training_iteration"] == 2 and result["config"]["lr"] == 0.01
    assert result["num_env_steps_sampled_lifetime"] == result["env_runners"]["num_env_steps_sampled_lifetime"] >= 120
    assert result["env_runners"]["episode_len_mean"] == 10 and "policy_loss" in result["learners"]["default_policy"]
    assert result["timers"]["training_iteration"] > 0 and "config" not in algorithm.metrics.peek()


def test_names_of_the_old_stack_say_what_to_use(built):
    algorithm = built(config_of())
    with pytest.raises(AttributeError, match=r"use act\(observation\)"):
        algorithm.compute_single_action([0.0, 0.0])
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        algorithm.anything  # noqa: B018
    assert repr(algorithm).startswith("PPO(env=<class")


def test_an_iteration_has_its_least_steps(built):
    algorithm = built(config_of().reporting(min_sample_timesteps_per_iteration=150, min_time_s_per_iteration=0))
    result = algorithm.train()
    assert (
        result["num_training_step_calls_per_iteration"] == 3 and result["env_runners"]["num_env_steps_sampled"] >= 150
    )


def test_a_training_step_of_ones_own_logs_and_returns_nothing(built):
    class Mine(PPO):
        answer = None

        def training_step(self):
            self.metrics.log_value("mine", 5.0, reduce="sum")
            return self.answer

    algorithm = built(PPOConfig(algo_class=Mine).update_from_dict(config_of().to_dict()))
    result = algorithm.train()
    assert result["mine"] == 5.0 and math.isnan(result["env_runners"]["episode_return_mean"])
    Mine.answer = {"mine": 3}
    with pytest.raises(ValueError, match="must return None"):
        algorithm.train()


def test_a_training_step_as_rllib_writes_it_samples_episodes(built):
    class Mine(PPO):
        def training_step(self):
            episodes, metrics = synchronous_parallel_sample(
                worker_set=self.env_runner_group, max_env_steps=60, _return_metrics=True
            )
            self.metrics.aggregate(metrics, key="env_runners")
            steps = {"num_env_steps_sampled_lifetime": self.steps_sampled}
            self.metrics.aggregate(self.learner_group.update(episodes=episodes, timesteps=steps), key="learners")
            self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)

    algorithm = built(PPOConfig(algo_class=Mine).update_from_dict(config_of().to_dict()))
    before = algorithm.get_weights()
    result = algorithm.train()
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] >= 60 and not same(before, algorithm.get_weights())
    assert result["env_runners"]["episode_len_mean"] == 10 and "policy_loss" in result["learners"]["default_policy"]
    with pytest.raises(ValueError, match="one of max_agent_steps and max_env_steps"):
        synchronous_parallel_sample(worker_set=algorithm.env_runner_group)


def test_callbacks_see_all_and_change_results(built):
    seen = []

    class Mine(RLlibCallback):
        def on_algorithm_init(self, *, algorithm, metrics_logger, **kwargs):
            seen.append("init")

        def on_episode_end(self, *, episode, metrics_logger, **kwargs):
            metrics_logger.log_value("length", len(episode), reduce="max")

        def on_train_result(self, *, algorithm, result, **kwargs):
            seen.append(result["training_iteration"])
            result["more"] = algorithm.iteration

        def on_evaluate_start(self, *, algorithm, **kwargs):
            seen.append("start")

        def on_evaluate_end(self, *, evaluation_metrics, **kwargs):
            seen.append(round(evaluation_metrics["env_runners"]["episode_len_mean"]))

    algorithm = built(config_of().callbacks(Mine).evaluation(evaluation_interval=1, evaluation_duration=2))
    result = algorithm.train()
    assert seen == ["init", "start", 10, 1]
    assert result["more"] == 1 and result["env_runners"]["length"] == 10


def test_an_evaluation_has_its_own_environments_and_settings(built):
    config = config_of().evaluation(
        evaluation_interval=2, evaluation_duration=3, evaluation_config={"explore": False, "num_envs_per_env_runner": 1}
    )
    algorithm = built(config)
    assert "evaluation" not in algorithm.train()
    result = algorithm.train()["evaluation"]
    assert result["env_runners"]["num_episodes"] == 3 and result["num_healthy_workers"] == 0
    before = algorithm.env_runner.get_state()
    again = algorithm.evaluate()["env_runners"]
    assert (again["num_episodes"], again["num_episodes_lifetime"]) == (3, 6)
    assert algorithm.eval_env_runner is not algorithm.env_runner
    assert before.keys() == algorithm.env_runner.get_state().keys()
    steps = built(config_of().evaluation(evaluation_duration=25, evaluation_duration_unit="timesteps"))
    assert 25 <= steps.evaluate()["env_runners"]["num_env_steps_sampled"] <= 30, "it is there when it is asked for"


def figures(runner):
    """How many observations the filter of a runner has seen, and their mean."""
    (piece,) = [piece for piece in runner._env_to_module.connectors if isinstance(piece, MeanStdFilter)]
    stat = piece._stats[None][0]
    return [stat.count, *stat.mean_array.tolist()]


def test_an_evaluation_normalises_observations_as_training_does(built):
    seen = []
    config = config_of().env_runners(env_to_module_connector=lambda env, spaces, device: MeanStdFilter())
    config.evaluation(evaluation_interval=1, evaluation_duration=1)
    config.callbacks(
        on_evaluate_start=lambda algorithm, **kwargs: seen.append(
            [figures(runner) for runner in (algorithm.env_runner, algorithm.eval_env_runner)]
        )
    )
    algorithm = built(config)
    for _ in range(2):
        algorithm.train()
    for training, evaluating in seen:
        assert training == evaluating and training[0] >= 60
    assert figures(algorithm.env_runner)[0] < figures(algorithm.eval_env_runner)[0], "it goes on from there"


def test_an_evaluation_of_ones_own_returns_three_things(built):
    def mine(algorithm, group):
        algorithm.metrics.log_value(("evaluation", "logged"), 2.0, reduce="mean")
        return {"mine": group.local_env_runner.config.in_evaluation}, 10, 10

    algorithm = built(config_of().evaluation(evaluation_interval=1, custom_evaluation_function=mine))
    result = algorithm.train()["evaluation"]
    assert result["mine"] is True and result["logged"] == 2.0
    wrong = built(config_of().evaluation(custom_evaluation_function=lambda algorithm, group: ({}, 1.0, None)))
    with pytest.raises(ValueError, match="integers"):
        wrong.evaluate()


def test_a_checkpoint_goes_on_with_counts_weights_and_changed_settings(built, tmp_path):
    algorithm = built(config_of().env_runners(env_to_module_connector=lambda env, spaces, device: MeanStdFilter()))
    for _ in range(2):
        before = algorithm.train()
    path = algorithm.save_to_path(tmp_path)
    again = Algorithm.from_checkpoint(path, config={"num_envs_per_env_runner": 3})
    try:
        assert type(again) is PPO and again.config.num_envs_per_env_runner == 3 and again.iteration == 2
        assert same(again.get_weights(), algorithm.get_weights())
        key = ("env_runners", "num_env_steps_sampled_lifetime")
        assert again.metrics.peek(key) == before["env_runners"]["num_env_steps_sampled_lifetime"]
        observation = np.array([0.3, 0.5], np.float32)
        assert again.act(observation) == algorithm.act(observation)
        result = again.train()
        assert result["training_iteration"] == 3 and result["time_total_s"] > before["time_total_s"]
        assert result["env_runners"]["num_env_steps_sampled_lifetime"] > again.steps_sampled / 2
    finally:
        again.stop()


def test_changed_settings_of_learning_count_from_the_first_update_on(built, tmp_path):
    config = config_of().multi_agent(policies={"default_policy"}, policies_to_train=["default_policy"])
    algorithm = built(config)
    algorithm.train()
    changed = {"lr": 0.5, "policies_to_train": []}
    again = Algorithm.from_checkpoint(algorithm.save_to_path(tmp_path), config=changed)
    try:
        (learner,) = again.learner_group.foreach_learner(lambda learner: learner)
        assert [group["lr"] for group in learner.get_optimizer().param_groups] == [0.5]
        again.train()
        assert same(again.get_weights(), algorithm.get_weights()), "no module is to learn any more"
    finally:
        again.stop()


def test_a_state_and_one_module_are_taken_up(built, tmp_path):
    one, other = built(config_of()), built(config_of().debugging(seed=8))
    one.train()
    path = one.save_to_path(tmp_path)
    module = "learner_group/learner/rl_module/default_policy"
    other.restore_from_path(f"{path}/{module}", component=module)
    assert same(one.get_weights(), other.get_weights()) and other.iteration == 0
    third = built(config_of().debugging(seed=9))
    third.set_state(one.get_state())
    assert third.iteration == 1 and third.steps_sampled == one.steps_sampled
    third.set_weights(one.get_weights())
    assert same(one.get_weights(), third.get_weights())


def test_a_checkpoint_of_another_algorithm_is_refused(built, tmp_path):
    class Other(Algorithm):
        pass

    path = built(config_of()).save_to_path(tmp_path)
    with pytest.raises(ValueError, match="is no Other"):
        Other.from_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        Algorithm.from_checkpoint(tmp_path / "nothing")


def test_an_agent_acts_as_in_training_with_masks_and_normalised_observations(built, tmp_path):
    config = config_of(masked=True).env_runners(env_to_module_connector=lambda env, spaces, device: MeanStdFilter())
    algorithm = built(config)
    algorithm.train()
    agent = Agent.from_checkpoint(algorithm.save_to_path(tmp_path), seed=1)
    environment = Count({"masked": True})
    for episode in range(3):
        observation, _ = environment.reset(seed=episode)
        agent.reset()
        done = False
        while not done:
            best = agent.act(observation)
            assert best == algorithm.act(observation) != 0
            observation, _, done, _, _ = environment.step(agent.act(observation, explore=True))
    assert type(agent.get_module()).__name__ == "DefaultPPOTorchRLModule" and agent.get_module("other") is None


def test_an_agent_remembers_actions_and_states_of_its_episode(built, tmp_path):
    config = config_of().env_runners(
        env_to_module_connector=lambda env, spaces, device: PrevActionsPrevRewards(n_prev_actions=2)
    )
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[8], use_lstm=True, lstm_cell_size=4, max_seq_len=5))
    config.learners(learner_connector=None)
    algorithm = built(config.training(train_batch_size_per_learner=60, minibatch_size=60))
    agent = Agent.from_checkpoint(algorithm.save_to_path(tmp_path))
    observations = [np.array([t / 10, t], np.float32) for t in range(8)]
    state, by_algorithm, by_agent = None, [], []
    for observation in observations:
        action, state = algorithm.act(observation, state=state)
        by_algorithm.append(action)
        by_agent.append(agent.act(observation))
    assert by_algorithm == by_agent
    agent.reset()
    assert [agent.act(observation) for observation in observations] == by_agent


def test_a_state_that_was_given_stays_as_it_was(built):
    config = config_of().env_runners(
        env_to_module_connector=lambda env, spaces, device: PrevActionsPrevRewards(n_prev_actions=2)
    )
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[8], use_lstm=True, lstm_cell_size=4, max_seq_len=5))
    algorithm = built(config.training(train_batch_size_per_learner=60, minibatch_size=60))
    state = None
    for t in range(3):
        _, state = algorithm.act(np.array([t, 1.0], np.float32), state=state)
    before, remembered = state.own(), repr(state.memory)
    assert "1." in remembered, "of the actions before"
    _, one = algorithm.act(np.array([0.5, 0.5], np.float32), state=state)
    assert one is not state and np.array_equal(state.state["h"], before.state["h"])
    _, other = algorithm.act(np.array([0.5, 0.5], np.float32), state=state)
    assert np.array_equal(one.state["h"], other.state["h"]) and not np.array_equal(one.state["h"], state.state["h"])
    assert repr(state.memory) == remembered
    assert one.memory.keys() == state.memory.keys() and repr(one.memory) == repr(other.memory)


def test_an_agent_has_no_module_that_its_checkpoint_has_left_out(built, tmp_path):
    config = config_of(num_agents=2).environment(make_multi_agent("CartPole-v1"))
    config.multi_agent(policies={"learns", "fixed"}, policies_to_train=["learns"])
    config.multi_agent(policy_mapping_fn=lambda agent_id, episode, **kwargs: "fixed" if agent_id else "learns")
    algorithm = built(config.checkpointing(checkpoint_trainable_policies_only=True))
    agent = Agent.from_checkpoint(algorithm.save_to_path(tmp_path))
    assert list(agent.modules.keys()) == ["learns"] and agent.act(np.zeros(4, np.float32), agent_id=0) in (0, 1)
    with pytest.raises(KeyError, match="no module 'fixed'"):
        agent.act(np.zeros(4, np.float32), agent_id=1)


def test_an_algorithm_of_an_unknown_environment_or_setting_says_so():
    with pytest.raises(ValueError, match="num_env_runners"):
        PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=-1).build_algo()


def test_what_was_made_is_ended_where_the_rest_cannot_be_made():
    closed = []

    class Closing(Count):
        def close(self):
            closed.append(True)

    class Wrong(PPO):
        def _make_learners(self, room):
            raise RuntimeError("no learner")

    config = PPOConfig(algo_class=Wrong).update_from_dict(config_of().to_dict()).environment(Closing)
    with pytest.raises(RuntimeError, match="no learner"):
        config.build_algo()
    assert closed


def test_the_room_of_a_trial_has_a_bundle_for_each_process():
    config = PPOConfig().env_runners(num_env_runners=2, num_cpus_per_env_runner=0.5)
    config.evaluation(evaluation_num_env_runners=1, evaluation_interval=1).learners(num_learners=1)
    room = PPO.default_resource_request(config)
    assert room.bundles == [{"CPU": 1.0}, {"CPU": 0.5}, {"CPU": 0.5}, {"CPU": 0.5}, {"CPU": 1.0}]
    alone = config.copy().env_runners(num_env_runners=0).learners(num_learners=0, num_gpus_per_learner=1)
    alone.evaluation(evaluation_num_env_runners=0, evaluation_interval=None)
    assert PPO.default_resource_request(alone.to_dict()).bundles == [{"CPU": 1.0, "GPU": 1.0}]
    asked = config.get_evaluation_config_object()
    assert missing_of(config, asked, {"CPU": 2.0}) == {"CPU": (2.5, 2.0)} and not missing_of(
        config, asked, {"CPU": 2.5}
    )
    several = config.copy().learners(num_learners=2, num_gpus_per_learner=1, num_aggregator_actors_per_learner=2)
    assert PPO.default_resource_request(several).bundles[-2:] == [{"GPU": 1.0}, {"GPU": 1.0}]
