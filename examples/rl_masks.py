"""Actions that are not allowed at each moment: an environment says so in its observation, and they are never taken.

    pip install 'hpc[rllib]'
    python examples/rl_masks.py

The observation is a Dict with the key "action_mask"; nothing has to be written for it.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.algorithms.ppo import PPOConfig

SIZE = 5
MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


class Board(gym.Env):
    """A walk from one corner of a board to the other one; a step off the board raises an error."""

    action_space = gym.spaces.Discrete(len(MOVES))
    observation_space = gym.spaces.Dict(
        {
            "place": gym.spaces.Box(0.0, 1.0, (2 * SIZE,), np.float32),
            "action_mask": gym.spaces.Box(0, 1, (len(MOVES),), np.int8),
        }
    )

    def __init__(self, config: Any = None) -> None:
        self.at = np.zeros(2, np.int64)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.at, self.t = np.zeros(2, np.int64), 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self.at = self.at + MOVES[action]
        if not ((self.at >= 0) & (self.at < SIZE)).all():
            raise ValueError(f"a step off the board, to {self.at}")
        self.t += 1
        is_there = bool((self.at == SIZE - 1).all())
        return self._seen(), 1.0 if is_there else -0.1, is_there, self.t >= 100, {}

    def _seen(self) -> dict[str, np.ndarray]:
        place = np.eye(SIZE, dtype=np.float32)[self.at].ravel()
        after = self.at + MOVES
        allowed = ((after >= 0) & (after < SIZE)).all(axis=1)
        return {"place": place, "action_mask": allowed.astype(np.int8)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=10, help="(10)")
    told = parser.parse_args()
    config = (
        PPOConfig()
        .environment(Board)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1600, minibatch_size=400, num_epochs=6, lr=3e-3, gamma=0.97, lambda_=0.9)
        .rl_module(model_config={"fcnet_hiddens": [64]})
        .debugging(seed=0)
    )
    algo = config.build_algo()
    steps, mean = 0, 0.0
    for _ in range(told.iterations):
        result = algo.train()
        steps, mean = result["num_env_steps_sampled_lifetime"], result["env_runners"]["episode_len_mean"]
        print(
            f"{steps:7.0f} steps, none of them off the board: {mean:.1f} to the corner, {2 * (SIZE - 1)} at best",
            flush=True,
        )
    algo.stop()


if __name__ == "__main__":
    main()
