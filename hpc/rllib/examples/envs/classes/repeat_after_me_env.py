"""What was observed some steps ago has to be repeated: a policy has to remember."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class RepeatAfterMeEnv(gym.Env):
    """``config``: `repeat_delay` (1) is the number of steps, `episode_len` (100), `continuous` has two numbers in place
    of a 0 or 1. The reward is 1 or -1, for numbers minus the distance."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        config = config or {}
        self.continuous = bool(config.get("continuous"))
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (2,)) if self.continuous else gym.spaces.Discrete(2)
        self.action_space = self.observation_space
        self.delay = config.get("repeat_delay", 1)
        self.episode_len = config.get("episode_len", 100)
        self.history: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.history = [0] * self.delay
        return self._next(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        wanted = self.history[-(1 + self.delay)]
        if self.continuous:
            reward = -float(np.sum(np.abs(action - wanted)))
        else:
            reward = 1.0 if action == wanted else -1.0
        is_over = len(self.history) > self.episode_len
        return self._next(), reward, is_over, is_over, {}

    def _next(self) -> Any:
        token = self.np_random.random(2).astype(np.float32) if self.continuous else int(self.np_random.integers(2))
        self.history.append(token)
        return token
