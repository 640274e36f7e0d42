"""The configuration of algorithms: setters, copies, dicts, checks, and what they say of wrong settings."""

from __future__ import annotations

import copy
import json

import gymnasium as gym
import numpy as np
import pytest

from hpc import cloudpickle, tune
from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.algorithms.config.given import NotProvided
from hpc.rllib.algorithms.dqn import DQNConfig
from hpc.rllib.algorithms.ppo import PPO, PPOConfig
from hpc.rllib.callbacks.callbacks import RLlibCallback
from hpc.rllib.env.env_runner_group import environment_of_actors
from hpc.rllib.policy.policy import PolicySpec

BOX, TWO = gym.spaces.Box(-1.0, 1.0, (3,), np.float32), gym.spaces.Discrete(2)


def test_setters_return_the_configuration_and_change_what_they_are_given():
    config = PPOConfig()
    made = (
        config.environment("CartPole-v1", env_config={"a": 1})
        .training(lr=0.1, train_batch_size_per_learner=500, lambda_=0.9)
        .env_runners(num_env_runners=0, env_to_module_connector=len)
        .learners(learner_class=dict)
        .debugging(seed=3)
    )
    assert made is config
    assert (config.env, config.lr, config.lambda_, config.seed) == ("CartPole-v1", 0.1, 0.9, 3)
    assert config.train_batch_size_per_learner == config.total_train_batch_size == 500
    assert config._env_to_module_connector is len and config.learner_class is dict
    assert config.environment(env_config={"b": {"c": 2}}).env_config == {"a": 1, "b": {"c": 2}}
    assert config.env == "CartPole-v1", "what is not given stays"


def test_dicts_that_were_given_stay_as_they_were():
    given = {"b": {"c": 2}}
    PPOConfig().environment(env_config=given).environment(env_config={"b": {"d": 3}})
    PPOConfig().evaluation(evaluation_config={"env_config": given}).evaluation(
        evaluation_config={"env_config": {"b": {"d": 3}}}
    )
    assert given == {"b": {"c": 2}}


def test_none_is_a_value():
    assert PPOConfig().training(grad_clip=4.0).training(grad_clip=None).grad_clip is None


@pytest.mark.parametrize(
    ("setter", "given", "near"),
    [
        ("training", {"lrr": 1}, "'lr'"),
        ("training", {"clip_parm": 1}, "'clip_param'"),
        ("env_runners", {"num_env_runner": 1}, "'num_env_runners'"),
        ("evaluation", {"evaluation_intervall": 1}, "'evaluation_interval'"),
    ],
)
def test_an_unknown_keyword_is_refused_with_the_name_that_was_meant(setter, given, near):
    with pytest.raises(TypeError, match=f"did you mean {near}"):
        getattr(PPOConfig(), setter)(**given)


@pytest.mark.parametrize(
    ("setter", "given", "instead"),
    [
        ("training", {"model": {"fcnet_hiddens": [4]}}, "rl_module"),
        ("env_runners", {"exploration_config": {}}, "_forward_exploration"),
        ("resources", {"num_gpus": 1}, "num_gpus_per_learner"),
        ("env_runners", {"observation_filter": "MeanStdFilter"}, "MeanStdFilter"),
        ("framework", {"framework": "tf2"}, "torch"),
        ("api_stack", {"enable_rl_module_and_learner": False}, "old API stack"),
    ],
)
def test_settings_of_the_old_stack_are_refused_with_what_to_use(setter, given, instead):
    with pytest.raises(ValueError, match=instead):
        getattr(PPOConfig(), setter)(**given)


def test_old_names_of_settings_are_taken_with_a_warning():
    config = PPOConfig()
    with pytest.warns(DeprecationWarning, match="num_env_runners"):
        config.env_runners(num_rollout_workers=3)
    with pytest.warns(DeprecationWarning, match="num_epochs"):
        config.training(num_sgd_iter=4)
    with pytest.warns(DeprecationWarning, match="fault_tolerance"):
        config.env_runners(restart_failed_sub_environments=True)
    assert (config.num_env_runners, config.num_epochs, config.restart_failed_sub_environments) == (3, 4, True)


def test_old_names_can_be_read_and_set_and_old_setters_name_the_new_ones():
    config = PPOConfig()
    config.num_rollout_workers = 5
    assert config.num_env_runners == config.num_rollout_workers == 5
    with pytest.raises(AttributeError, match=r"use config\.env_runners"):
        config.rollouts(num_rollout_workers=2)


def test_hooks_that_nobody_calls_are_refused():
    class Old(RLlibCallback):
        def on_learn_on_batch(self, **kwargs):
            pass

    with pytest.raises(ValueError, match=r"Old\.on_learn_on_batch is never called: use a learner connector"):
        PPOConfig().callbacks(Old).validate()


def test_dicts_have_ray_names_and_come_back():
    config = PPOConfig().training(lr=0.3, lambda_=0.5).environment(env_config={"a": 1})
    found = config.to_dict()
    assert (found["lambda"], found["input"], found["framework"]) == (0.5, "sampler", "torch")
    assert found["callbacks"] is RLlibCallback and "lambda_" not in found and "algo_class" not in found
    again = PPOConfig.from_dict(found)
    assert again.to_dict() == found
    assert found["env_config"] is not config.env_config, "a dict is a copy"


def test_a_dict_of_ray_with_defaults_of_the_old_stack_is_taken_and_other_values_are_refused():
    assert (
        PPOConfig.from_dict(
            {"num_gpus": 0, "optimizer": {}, "lr": 0.5, "num_workers": 4, "worker_cls": -1}
        ).num_env_runners
        == 4
    )
    with pytest.raises(ValueError, match="num_gpus_per_learner"):
        PPOConfig.from_dict({"num_gpus": 1})
    assert PPOConfig().num_gpus == 0, "they can be read"
    with pytest.raises(ValueError, match="num_gpus_per_learner"):
        PPOConfig().num_gpus = 1


def test_it_is_used_as_a_dict():
    config = PPOConfig()
    config["lr"] = 0.25
    assert (config["lr"], config.get("lr"), config.get("nothing", 5), config["lambda"]) == (0.25, 0.25, 5, 1.0)
    assert "lr" in config and "nothing" not in config and set(config.keys()) == set(config.to_dict())
    with pytest.raises(AttributeError, match="Did you mean 'gamma'"):
        config["gama"]


def test_overrides_know_their_names():
    assert PPOConfig.overrides(lambda_=0.5, explore=False) == {"lambda_": 0.5, "explore": False}
    with pytest.raises(KeyError, match="Did you mean 'clip_param'"):
        PPOConfig.overrides(clip_parm=1)
    with pytest.raises(KeyError, match="Invalid property name"):
        AlgorithmConfig.overrides(clip_param=1)


def test_a_frozen_one_cannot_be_changed_and_a_copy_can():
    config = PPOConfig().evaluation(evaluation_config=PPOConfig())
    config.freeze()
    for frozen in (config, copy.deepcopy(config), config.copy(), config.evaluation_config):
        with pytest.raises(AttributeError, match="frozen"):
            frozen.training(lr=1.0)
    thawed = config.copy(copy_frozen=False)
    thawed.training(lr=0.7)
    thawed.evaluation_config.training(lr=0.8)
    assert (thawed.lr, config.lr) == (0.7, 5e-5)


def test_it_is_pickled_and_becomes_json():
    config = PPOConfig().callbacks(on_train_result=lambda **kwargs: None).environment(gym.Env)
    again = cloudpickle.loads(cloudpickle.dumps(config))
    assert again.env is gym.Env and callable(again.callbacks_on_train_result)
    assert cloudpickle.loads(cloudpickle.dumps(NotProvided)) is NotProvided
    text = json.loads(json.dumps(config.serialize()))
    assert text["callbacks"] == "hpc.rllib.callbacks.callbacks.RLlibCallback"
    assert text["env"] == "gymnasium.core.Env" and text["lr"] == 5e-5


def test_a_state_comes_back_with_defaults_for_settings_that_came_later():
    state = PPOConfig().training(lr=0.5).get_state()
    del state["kl_coeff"]
    again = AlgorithmConfig.from_state(state)
    assert type(again) is PPOConfig and (again.lr, again.kl_coeff, again.algo_class) == (0.5, 0.2, PPO)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.training(lr=[[5, 1.0], [10, 0.1]]), "first timestep must be 0"),
        (lambda c: c.training(lr=[[0, 1.0]]), "list of 2 or more"),
        (lambda c: c.training(minibatch_size=5000), "minibatch_size"),
        (lambda c: c.training(gamma=1.5), "gamma"),
        (lambda c: c.env_runners(gym_env_vectorize_mode="often"), "gym_env_vectorize_mode"),
        (lambda c: c.env_runners(merge_env_runner_states="no"), "merge_env_runner_states"),
        (lambda c: c.evaluation(evaluation_parallel_to_training=True), "evaluation_num_env_runners"),
        (lambda c: c.evaluation(evaluation_duration="auto"), "evaluation_parallel_to_training"),
        (lambda c: c.evaluation(evaluation_duration=0), "evaluation_duration"),
        (lambda c: c.evaluation(evaluation_duration_unit="days"), "timesteps"),
        (lambda c: c.multi_agent(policies_to_train=["p7"]), "p7"),
        (lambda c: c.env_runners(rollout_fragment_length=3000), "rollout_fragment_length"),
        (lambda c: c.environment(render_env=True), "render"),
        (lambda c: c.offline_data(output="there"), "complete"),
        (lambda c: c.framework(torch_compile_worker=True), "`torch_compile_worker` has no effect"),
    ],
)
def test_values_that_do_not_fit_are_named(change, said):
    config = change(PPOConfig().env_runners(num_env_runners=0))
    with pytest.raises(ValueError, match=said):
        config.validate()
    config.experimental(_validate_config=False).validate()


def test_settings_that_nothing_reads_are_named_in_a_warning(caplog):
    config = PPOConfig().reporting(keep_per_episode_custom_metrics=True)
    config.fault_tolerance(env_runner_restore_timeout_s=5.0, env_runner_health_probe_timeout_s=5.0).validate()
    config.get_evaluation_config_object().validate()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "`keep_per_episode_custom_metrics` has no effect in hpc.rllib"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.env_runners(num_envs_per_env_runner=0),
        lambda c: c.env_runners(rollout_fragment_length="often"),
        lambda c: c.env_runners(batch_mode="some"),
        lambda c: c.training(grad_clip_by="hand"),
        lambda c: c.learners(custom_resources_per_learner={"CPU": 1}),
        lambda c: c.multi_agent(count_steps_by="hours"),
        lambda c: c.multi_agent(policies=5),
        lambda c: c.multi_agent(policies={"a/b"}),
        lambda c: c.multi_agent(policies={"a": 5}),
        lambda c: c.multi_agent(policies={"a": PolicySpec(config=3)}),
        lambda c: c.rl_module(algorithm_config_overrides_per_module=3),
        lambda c: c.callbacks(5),
    ],
)
def test_values_that_are_wrong_by_themselves_are_refused_at_once(change):
    with pytest.raises(ValueError):
        change(PPOConfig())


def test_values_that_a_tuner_chooses_may_stand_anywhere():
    config = PPOConfig().training(lr=tune.grid_search([0.1, 0.2]), grad_clip_by=tune.choice(["value", "norm"]))
    config.env_runners(rollout_fragment_length=tune.choice([5, 10]), num_envs_per_env_runner=tune.randint(1, 4))
    config.evaluation(evaluation_duration=tune.choice([1, 2]))
    assert config.to_dict()["lr"] == {"grid_search": [0.1, 0.2]}
    config.validate_train_batch_size_vs_rollout_fragment_length()


@pytest.mark.parametrize(
    ("runners", "envs", "batch", "lengths"),
    [
        (0, 1, 500, [500]),
        (3, 1, 500, [167, 167, 166]),
        (3, 5, 500, [34, 33, 33]),
        (2, 20, 512, [13, 13]),
        (2, 2, 2, [1, 1]),
    ],
)
def test_fragments_of_all_runners_make_one_train_batch(runners, envs, batch, lengths):
    config = PPOConfig().env_runners(num_env_runners=runners, num_envs_per_env_runner=envs)
    config.training(train_batch_size_per_learner=batch)
    assert [config.get_rollout_fragment_length(index or 1) for index in range(1, (runners or 1) + 1)] == lengths
    assert config.env_runners(rollout_fragment_length=9).get_rollout_fragment_length(2) == 9


def test_the_evaluation_has_its_settings_over_the_others():
    config = (
        PPOConfig()
        .training(lr=0.3)
        .evaluation(
            evaluation_num_env_runners=2,
            evaluation_duration=30,
            evaluation_duration_unit="timesteps",
            evaluation_config={"explore": False, "env_config": {"length": 3}},
        )
    )
    config.freeze()
    found = config.get_evaluation_config_object()
    assert (found.explore, found.in_evaluation, found.num_env_runners, found.lr) == (False, True, 2, 0.3)
    assert found.env_config == {"length": 3} and config.env_config == {} and config.explore
    assert (found.batch_mode, found.rollout_fragment_length) == ("truncate_episodes", 15)
    assert found.get_evaluation_config_object() is None
    whole = PPOConfig().evaluation(evaluation_config=PPOConfig().environment("Other-v0")).get_evaluation_config_object()
    assert (whole.env, whole.batch_mode) == ("Other-v0", "complete_episodes")


def test_modules_have_their_own_settings():
    config = PPOConfig().multi_agent(policies={"p0", "p1"}).training(lr=0.5)
    config.rl_module(algorithm_config_overrides_per_module={"p0": PPOConfig.overrides(lr=0.1)})
    config.freeze()
    assert (config.get_config_for_module("p0").lr, config.get_config_for_module("p1").lr) == (0.1, 0.5)
    assert config.get_config_for_module("p0") is config.get_config_for_module("p0")
    assert config.is_multi_agent and not PPOConfig().is_multi_agent


def test_settings_of_a_policy_spec_are_those_of_its_module():
    config = PPOConfig().training(lr=0.5, gamma=0.5)
    config.multi_agent(policies={"a": PolicySpec(config={"lr": 0.25, "gamma": 0.75}), "b": PolicySpec()})
    config.rl_module(algorithm_config_overrides_per_module={"a": {"lr": 0.125}})
    found = config.get_config_for_module("a")
    assert (found.lr, found.gamma, config.get_config_for_module("b").lr) == (0.125, 0.75, 0.5)


def test_variables_of_the_processes_of_actors_are_taken():
    config = PPOConfig().python_environment(extra_python_environs_for_worker={"A": "1"})
    config.validate()
    assert environment_of_actors(config) == {"runtime_env": {"env_vars": {"A": "1"}}}


def test_settings_that_change_later_count_for_modules_with_their_own_too():
    config = PPOConfig().multi_agent(policies={"a", "b"}).training(gamma=0.5)
    config.rl_module(algorithm_config_overrides_per_module={"a": PPOConfig.overrides(lr=0.25)})
    assert config.get_config_for_module("a").gamma == 0.5
    config.training(gamma=0.75)
    assert config.get_config_for_module("a").gamma == 0.75
    state = config.get_state()
    for made in (AlgorithmConfig.from_state(state), PPOConfig.from_dict(config.to_dict()), config.copy()):
        made.gamma = 0.875
        assert (made.get_config_for_module("a").gamma, made.get_config_for_module("a").lr) == (0.875, 0.25)
    frozen = config.copy(copy_frozen=True)
    assert frozen.get_config_for_module("a") is frozen.get_config_for_module("a")


def test_what_is_no_setting_is_named_in_a_warning_where_dicts_have_it(caplog):
    config = PPOConfig().update_from_dict({"num_env_runner": 3, "lr": 0.5, "mine": 1})
    assert (config.lr, config["mine"], config.num_env_runners) == (0.5, 1, PPOConfig().num_env_runners)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and "Did you mean 'num_env_runners'?" in said[0] and "'mine'" in said[1]
    caplog.clear()
    PPOConfig.from_dict(PPOConfig().to_dict())
    PPOConfig().update_from_dict({"lambda": 0.5, "model_config_dict": {}, "simple_optimizer": -1})
    assert not caplog.records


def test_modules_get_spaces_classes_and_networks():
    config = (
        PPOConfig()
        .environment(observation_space=BOX, action_space=TWO)
        .rl_module(model_config={"vf_share_layers": True})
    )
    one = config.get_rl_module_spec(inference_only=True)
    assert (one.observation_space, one.action_space, one.inference_only) == (BOX, TWO, True)
    assert one.model_config["vf_share_layers"] is True
    several = (
        PPOConfig()
        .multi_agent(policies={"a", "b"})
        .get_multi_rl_module_spec(spaces={"a": (BOX, TWO), "b": (BOX, gym.spaces.Discrete(5))})
    )
    assert sorted(several.rl_module_specs) == ["a", "b"]
    assert several.rl_module_specs["b"].action_space.n == 5
    with pytest.raises(ValueError, match="spaces of the module 'a' are not known"):
        PPOConfig().multi_agent(policies={"a"}).get_multi_rl_module_spec()


def test_a_configuration_of_no_algorithm_builds_none():
    with pytest.raises(ValueError, match="belongs to no algorithm"):
        AlgorithmConfig().build_algo()


def test_defaults_of_dqn_for_evaluation_stay_with_further_ones():
    config = DQNConfig().evaluation(evaluation_config={"num_envs_per_env_runner": 2})
    assert config.evaluation_config == {"explore": False, "num_envs_per_env_runner": 2}
    assert DQNConfig().evaluation_config == {"explore": False}
