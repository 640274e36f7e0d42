"""An environment of any spaces, whose observations, rewards and ends are drawn by chance."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.env.multi_agent_env import make_multi_agent


class RandomEnv(gym.Env):
    """Spaces are given by ``config``: `observation_space`, `action_space` (both two values), `reward_space` (-1 to 1).

    `p_terminated` (0.1) is the chance that an episode ends at a step, and `max_episode_len` truncates it.
    `static_samples` has the same observation and reward always. `check_action_bounds` raises ValueError at an action
    outside the space.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        config = config or {}
        self.action_space = config.get("action_space", gym.spaces.Discrete(2))
        self.observation_space = config.get("observation_space", gym.spaces.Discrete(2))
        self.reward_space = config.get("reward_space", gym.spaces.Box(-1.0, 1.0, (), np.float32))
        self.static_samples = config.get("static_samples", False)
        ends = config.get("p_terminated")
        self.p_terminated = config.get("p_done", 0.1) if ends is None else ends
        self.max_episode_len = config.get("max_episode_len")
        self.check_action_bounds = config.get("check_action_bounds", False)
        self.steps = 0
        self._same = self._draw() if self.static_samples else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
            self.reward_space.seed(seed)
        self.steps = 0
        return self._next()[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.check_action_bounds and not self.action_space.contains(action):
            raise ValueError(f"The action {action!r} is not in {self.action_space}.")
        self.steps += 1
        truncated = bool(self.max_episode_len) and self.steps >= self.max_episode_len
        terminated = not truncated and bool(self.np_random.random() < self.p_terminated)
        observation, reward = self._next()
        return observation, reward, terminated, truncated, {}

    def _next(self) -> tuple[Any, float]:
        return copy.deepcopy(self._same) if self._same is not None else self._draw()

    def _draw(self) -> tuple[Any, float]:
        return self.observation_space.sample(), float(self.reward_space.sample())


class RandomLargeObsSpaceEnv(RandomEnv):
    """Observations of 5,000 numbers."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__({**(config or {}), "observation_space": gym.spaces.Box(-1.0, 1.0, (5000,))})


class RandomLargeObsSpaceEnvContActions(RandomEnv):
    """Observations of 5,000 numbers, actions of five."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        spaces = {
            "observation_space": gym.spaces.Box(-1.0, 1.0, (5000,)),
            "action_space": gym.spaces.Box(-1.0, 1.0, (5,)),
        }
        super().__init__({**(config or {}), **spaces})


RandomMultiAgentEnv = make_multi_agent(lambda config: RandomEnv(config))
