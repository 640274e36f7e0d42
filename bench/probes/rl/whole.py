"""What whole algorithms keep to: masks of actions, and what a checkpoint has.

    python whole.py masks PPO|DQN|APPO STEPS       actions against the mask, of so many steps
    python whole.py restore                        returns and counters before and after, on half the runners
    python whole.py bits PPO|DQN|SAC|IMPALA|APPO   the next update of a learner and of its restored twin

Prints ``@bench {...}``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.algorithms.algorithm import Algorithm
from hpc.rllib.examples.envs.classes.action_mask_env import ActionMaskEnv

COUNTERS = ("num_env_steps_sampled_lifetime", "training_iteration")


class Counting(ActionMaskEnv):
    """Counts actions against the mask, in place of raising; and how often a mask forbids anything."""

    invalid = steps = masked = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        Counting.steps += 1
        Counting.masked += not self.valid_actions.all()
        if not self.valid_actions[action]:
            Counting.invalid += 1
            self.valid_actions[action] = 1.0
        return super().step(action)


def configured(name: str, env: Any = "CartPole-v1") -> Any:
    """A small algorithm in this process."""
    config = getattr(importlib.import_module(f"hpc.rllib.algorithms.{name.lower()}"), f"{name}Config")()
    config.environment(env).env_runners(num_env_runners=0, num_envs_per_env_runner=16)
    config.learners(num_learners=0).rl_module(model_config={"fcnet_hiddens": [64, 64]})
    if name in ("DQN", "SAC"):
        config.training(num_steps_sampled_before_learning_starts=200, train_batch_size_per_learner=64)
        config.reporting(min_sample_timesteps_per_iteration=200)
    else:
        config.training(train_batch_size_per_learner=1024, minibatch_size=None if name != "PPO" else 128)
    if name == "PPO":
        config.training(num_epochs=2)
    return config.reporting(min_time_s_per_iteration=0).debugging(seed=0, log_level="ERROR")


def masks(name: str, steps: int) -> dict[str, Any]:
    """Exploring steps, then one evaluation by the best actions. The same without masks shows that it counts."""
    settings = {"action_space": gym.spaces.Discrete(20), "observation_space": gym.spaces.Box(-1.0, 1.0, (5,))}
    config = configured(name, Counting).environment(env_config=settings)
    if name == "DQN":
        config.training(training_intensity=1)
    config.evaluation(evaluation_duration=50, evaluation_config={"explore": False})
    algo = config.build_algo()
    Counting.invalid = Counting.steps = 0
    while Counting.steps < steps:
        algo.train()
    algo.evaluate()
    algo.stop()
    invalid, done = Counting.invalid, Counting.steps
    Counting.invalid = 0
    control = Counting(settings)
    control.reset(seed=0)
    for _ in range(200):
        control.step(control.action_space.sample())
    return {"steps": done, "invalid": invalid, "seen": Counting.invalid}


def restore() -> dict[str, Any]:
    """Saved with four runners, restored with two: mean return of 200 episodes, and counters."""
    import hpc

    hpc.init(num_cpus=6)
    config = configured("PPO").env_runners(num_env_runners=4, num_envs_per_env_runner=4)
    config.training(train_batch_size_per_learner=2000, minibatch_size=250, num_epochs=6, lr=1e-3)
    config.evaluation(evaluation_duration=200, evaluation_config={"explore": False})
    algo = config.build_algo()
    for _ in range(12):
        result = algo.train()
    before = algo.evaluate()["env_runners"]["episode_return_mean"]
    with tempfile.TemporaryDirectory() as folder:
        algo.save_to_path(folder)
        algo.stop()
        again = Algorithm.from_checkpoint(folder, config={"num_env_runners": 2})
    restored = {"num_env_steps_sampled_lifetime": again.steps_sampled, "training_iteration": again.training_iteration}
    after = again.evaluate()["env_runners"]["episode_return_mean"]
    again.stop()
    hpc.shutdown()
    return {
        "before": before, "after": after, "counters": {key: int(result[key]) for key in COUNTERS},
        "restored": {key: int(restored[key]) for key in COUNTERS},
    }  # fmt: skip


def bits(name: str) -> dict[str, Any]:
    """How many weights differ after an update with the same samples: of the algorithm, and of what it was saved as."""
    env = "Pendulum-v1" if name == "SAC" else "CartPole-v1"
    config = configured(name, env)
    replays = name in ("DQN", "SAC")
    if replays:
        config.training(store_buffer_in_checkpoints=True)
    algo = config.build_algo()
    for _ in range(2):
        algo.train()
    with tempfile.TemporaryDirectory() as folder:
        algo.save_to_path(folder)
        twin = Algorithm.from_checkpoint(folder)
    before = flat(algo)
    samples = None if replays else algo.env_runner_group.collect(steps=1024)
    for one in (algo, twin):
        update(one, samples)
    ours, theirs = flat(algo), flat(twin)
    for one in (algo, twin):
        one.stop()
    different = int(np.count_nonzero(ours.view(np.uint32) != theirs.view(np.uint32)))
    return {"weights": len(ours), "different": different, "moved": int(np.count_nonzero(ours != before))}


def update(algo: Any, samples: Any) -> None:
    """One update as the algorithm makes it: with a batch that its buffer draws, or with these samples."""
    if samples is None:
        algo._update_from_buffer()
        return
    config = algo.config
    algo.learner_group.update(
        samples=samples, timesteps=algo.timesteps(), num_epochs=config.num_epochs,
        minibatch_size=config.minibatch_size, shuffle_batch_per_epoch=config.shuffle_batch_per_epoch,
    )  # fmt: skip


def flat(algo: Any) -> np.ndarray:
    """All weights, one behind the other."""
    parts = algo.get_weights()["default_policy"]
    return np.concatenate([np.asarray(parts[name], np.float32).reshape(-1) for name in sorted(parts)])


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    what, *rest = sys.argv[1:]
    if what == "masks":
        record = masks(rest[0], int(rest[1]))
    else:
        record = restore() if what == "restore" else bits(rest[0])
    print("@bench", json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
