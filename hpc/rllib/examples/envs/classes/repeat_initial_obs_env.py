"""The first observation has to be repeated until the end: a policy has to remember."""

from __future__ import annotations

from typing import Any

import gymnasium as gym


class RepeatInitialObsEnv(gym.Env):
    """The first observation is 0 or 1, all others are 0; an action that is the first one gives 1, another one -1."""

    def __init__(self, episode_len: int = 100) -> None:
        self.observation_space = gym.spaces.Discrete(2)
        self.action_space = gym.spaces.Discrete(2)
        self.episode_len = episode_len
        self.token = 0
        self.num_steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.token = int(self.np_random.integers(2))
        self.num_steps = 0
        return self.token, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.num_steps += 1
        is_over = self.num_steps >= self.episode_len
        return 0, 1.0 if action == self.token else -1.0, is_over, is_over, {}
