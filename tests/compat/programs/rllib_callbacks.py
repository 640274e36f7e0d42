"""Callbacks: which are called, with what, in which order; classes, several of them, and functions."""
# needs: torch, gymnasium

import os

import gymnasium as gym
import numpy as np

from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.callbacks.callbacks import RLlibCallback

SEEN = []
SAMPLED = []


class Ten(gym.Env):
    """Each episode has ten steps."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config=None):
        self.config = dict(config or {})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(2, self.t / 10, np.float32), 1.0, self.t == 10, False, {"t": self.t}


def say(*words):
    if not SEEN or SEEN[-1] != words:
        SEEN.append(words)


class Mine(RLlibCallback):
    def on_algorithm_init(self, *, algorithm, metrics_logger=None, **kwargs):
        say("algorithm", type(algorithm).__name__, metrics_logger is not None)

    def on_environment_created(self, *, env_runner, metrics_logger=None, env, env_context, **kwargs):
        say("environment", type(env_runner).__name__, env_context.worker_index, dict(env_context))

    def on_episode_created(self, *, episode, env_runner=None, env=None, env_index=0, **kwargs):
        say("created", len(episode), episode.is_reset, env_index)

    def on_episode_start(
        self, *, episode, env_runner=None, metrics_logger=None, env=None, env_index=0, rl_module=None, **kwargs
    ):
        say("start", len(episode), rl_module is not None)

    def on_episode_step(self, *, episode, env_index, **kwargs):
        if episode.is_done or len(episode) == 1:
            say("step", len(episode), episode.is_done, float(episode.get_return()), int(episode.get_infos(-1)["t"]))

    def on_episode_end(self, *, episode, metrics_logger=None, **kwargs):
        say("end", len(episode), float(episode.get_return()), episode.is_terminated)
        metrics_logger.log_value("mine", len(episode), reduce="mean", window=5)
        metrics_logger.log_value(("nested", "last"), episode.get_return(), reduce="max")

    def on_sample_end(self, *, env_runner=None, metrics_logger=None, samples, **kwargs):
        SAMPLED.append(sum(len(one) for one in samples))

    def on_evaluate_start(self, *, algorithm, metrics_logger=None, **kwargs):
        say("evaluate")

    def on_evaluate_end(self, *, algorithm, metrics_logger=None, evaluation_metrics, **kwargs):
        say("evaluated", "env_runners" in evaluation_metrics)

    def on_train_result(self, *, algorithm, metrics_logger=None, result, **kwargs):
        say("result", result["training_iteration"])
        result["added"] = 5

    def on_checkpoint_loaded(self, *, algorithm, **kwargs):
        say("loaded")


class Other(RLlibCallback):
    def on_train_result(self, *, algorithm, result, **kwargs):
        say("other", result.get("added"))


def base():
    config = PPOConfig().environment(Ten, env_config={"a": 1}).env_runners(num_env_runners=0)
    return config.training(train_batch_size_per_learner=30, minibatch_size=30, num_epochs=1).rl_module(
        model_config={"fcnet_hiddens": [4]}
    )


algo = base().callbacks([Mine, Other]).build_algo()
result = algo.train()
result = algo.train()
for words in SEEN:
    print(*words)
print(sum(SAMPLED), result["added"], result["env_runners"]["mine"], result["env_runners"]["nested"]["last"])
print(result["env_runners"]["episode_return_mean"], result["env_runners"]["episode_len_max"])
SEEN.clear()
folder = algo.save_to_path(os.path.abspath("saved"))
algo.restore_from_path(folder)
print([words for words in SEEN if words[0] == "loaded"])
algo.stop()

print("== functions")
SEEN.clear()
config = base().callbacks(
    on_episode_end=lambda *, episode, **kwargs: say("function", len(episode)),
    on_train_result=[lambda *, result, **kwargs: say("one"), lambda *, result, **kwargs: say("two")],
)
algo = config.build_algo()
algo.train()
for words in SEEN:
    print(*words)
algo.stop()

print("== evaluation")
SEEN.clear()
config = base().callbacks(Mine).evaluation(evaluation_interval=1, evaluation_duration=2)
algo = config.build_algo()
result = algo.train()
print([words for words in SEEN if words[0] in ("evaluate", "evaluated", "result")])
print(result["evaluation"]["env_runners"]["episode_return_mean"], result["evaluation"]["env_runners"]["num_episodes"])
alone = algo.evaluate()
print(sorted(alone), alone["env_runners"]["episode_len_mean"])
algo.stop()
