"""Configurations: chains, copies, freezing, the ways to read and write them, and what is refused."""
# needs: torch, gymnasium

import gymnasium as gym
import numpy as np

from hpc.rllib.algorithms.algorithm_config import AlgorithmConfig
from hpc.rllib.algorithms.dqn import DQNConfig
from hpc.rllib.algorithms.impala import IMPALAConfig
from hpc.rllib.algorithms.ppo import PPO, PPOConfig
from hpc.rllib.algorithms.sac import SACConfig
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig


def tried(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


config = (
    PPOConfig()
    .environment("CartPole-v1", env_config={"length": 3})
    .env_runners(num_env_runners=1, num_envs_per_env_runner=4)
    .training(lr=0.001, train_batch_size_per_learner=2000, minibatch_size=250, num_epochs=7, lambda_=0.9)
)
print(type(config).__name__, config.env, config.env_config, config.lr, config.lambda_, config.num_epochs)
print(config["lr"], config["env"], config["lambda"], config.get("lr"), config.get("no such", 5), "lr" in config)
tried("a key that is not there", lambda: config["no such"])
print(config.env_runners() is config, config.training() is config)

copy = config.copy()
copy.training(lr=0.1)
print("copy", copy.lr, config.lr, copy.env_config is config.env_config)
config.freeze()
tried("a frozen one", lambda: config.training(lr=0.5))
tried("an attribute of a frozen one", lambda: setattr(config, "gamma", 0.5))
print("a copy of a frozen one", config.copy().is_frozen if hasattr(config, "is_frozen") else config.copy()._is_frozen)
thawed = config.copy(copy_frozen=False)
thawed.training(gamma=0.5)
print("thawed", thawed.gamma, config.gamma)
tried("a frozen copy", lambda: config.copy(copy_frozen=True).training(lr=0.5))

print("== dicts")
as_dict = config.to_dict()
print(type(as_dict).__name__, as_dict["lr"], as_dict["lambda"], as_dict["train_batch_size"])
again = PPOConfig.from_dict({"lr": 0.25, "env": "CartPole-v1", "num_epochs": 3, "lambda": 0.5})
print(again.lr, again.env, again.num_epochs, again.lambda_)
again.update_from_dict({"lr": 0.125, "env_config": {"a": 1}})
again.update_from_dict({"env_config": {"b": 2}})
print(again.lr, again.env_config)
print(sorted(PPOConfig.overrides(lr=0.5, gamma=0.9).items()))
tried("overrides with an unknown name", lambda: PPOConfig.overrides(no_such_setting=1))

print("== unknown keywords")
tried("training", lambda: PPOConfig().training(learning_rate=0.1))
tried("environment", lambda: PPOConfig().environment("CartPole-v1", configuration={}))
tried("env_runners", lambda: PPOConfig().env_runners(num_runners=1))
tried("training of another algorithm", lambda: PPOConfig().training(n_step=3))
tried("positional", lambda: PPOConfig().env_runners(1, 2))

print("== sizes")
for runners in (0, 1, 2, 3):
    for envs in (1, 2, 5):
        sized = PPOConfig().env_runners(num_env_runners=runners, num_envs_per_env_runner=envs)
        sized.training(train_batch_size_per_learner=500)
        print(runners, envs, [sized.get_rollout_fragment_length(worker_index=i) for i in range(runners + 1)])
sized = PPOConfig().env_runners(num_env_runners=2, rollout_fragment_length=30)
print(sized.get_rollout_fragment_length(), sized.rollout_fragment_length, sized.total_train_batch_size)
sized = PPOConfig().learners(num_learners=2).training(train_batch_size_per_learner=300)
print(sized.total_train_batch_size, sized.train_batch_size_per_learner)
sized = PPOConfig().learners(num_learners=0).training(train_batch_size_per_learner=300)
print(sized.total_train_batch_size)
print(
    DQNConfig().get_rollout_fragment_length(), DQNConfig().env_runners(num_env_runners=3).get_rollout_fragment_length()
)
print(SACConfig().get_rollout_fragment_length(), IMPALAConfig().get_rollout_fragment_length())
print(DQNConfig().training(n_step=3).get_rollout_fragment_length())
print(DQNConfig().training(n_step=(2, 5)).get_rollout_fragment_length())

print("== validation")
valid = lambda: PPOConfig().environment("CartPole-v1")
tried("fine", lambda: valid().validate())
tried(
    "minibatch larger than the batch",
    lambda: valid().training(train_batch_size_per_learner=64, minibatch_size=128).validate(),
)
tried("batch mode", lambda: valid().env_runners(batch_mode="some episodes").validate())
tried("grad_clip_by", lambda: valid().training(grad_clip=1.0, grad_clip_by="length").validate())
tried("framework", lambda: valid().framework("tf").validate())
tried("schedule that does not begin at 0", lambda: valid().training(lr=[[10, 0.1], [100, 0.01]]).validate())
tried("schedule with one pair", lambda: valid().training(lr=[[0, 0.1]]).validate())
tried("schedule", lambda: valid().training(lr=[[0, 0.1], [1000, 0.01]]).validate())
tried(
    "evaluation in parallel with no runner",
    lambda: (
        valid()
        .evaluation(evaluation_interval=1, evaluation_parallel_to_training=True, evaluation_num_env_runners=0)
        .validate()
    ),
)
tried(
    "evaluation auto without parallel",
    lambda: valid().evaluation(evaluation_interval=1, evaluation_duration="auto").validate(),
)
tried(
    "policies_to_train unknown",
    lambda: (
        valid()
        .multi_agent(policies={"a", "b"}, policies_to_train=["c"], policy_mapping_fn=lambda *a, **k: "a")
        .validate()
    ),
)
tried("policy id", lambda: valid().multi_agent(policies={"a/b"}, policy_mapping_fn=lambda *a, **k: "a/b"))
tried("count_steps_by", lambda: valid().multi_agent(count_steps_by="hours"))
tried("local_gpu_idx", lambda: valid().learners(local_gpu_idx=0).validate())
tried(
    "dqn buffer",
    lambda: (
        DQNConfig()
        .environment("CartPole-v1")
        .training(replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 10})
        .replay_buffer_config
    ),
)
tried("sac lr", lambda: SACConfig().environment("Pendulum-v1").training(lr=0.1).validate())

print("== several modules")
many = PPOConfig().multi_agent(policies={"p0", "p1"}, policy_mapping_fn=lambda agent_id, episode, **kw: f"p{agent_id}")
print(many.is_multi_agent, sorted(many.policies), many.policy_mapping_fn(1, None))
many.multi_agent(policies_to_train=["p1"])
print(many.policies_to_train)
many.rl_module(algorithm_config_overrides_per_module={"p0": PPOConfig.overrides(lr=0.5)})
print(many.get_config_for_module("p0").lr, many.get_config_for_module("p1").lr)

print("== spaces and specs")
made = (
    PPOConfig()
    .environment(observation_space=gym.spaces.Box(-1.0, 1.0, (3,), np.float32), action_space=gym.spaces.Discrete(2))
    .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[4]))
)
spec = made.get_rl_module_spec()
print(type(spec).__name__, spec.module_class.__name__, spec.observation_space, spec.action_space)
print(type(spec.model_config).__name__, made.get_default_rl_module_spec().module_class.__name__)
multi = made.get_multi_rl_module_spec()
print(type(multi).__name__, sorted(multi.rl_module_specs))
print(PPOConfig().algo_class is PPO, PPO.get_default_config().__class__ is PPOConfig)
print(AlgorithmConfig(PPO).algo_class is PPO)
