"""Pendulum without its velocity: a policy has to remember."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import PendulumEnv


class StatelessPendulum(PendulumEnv):
    """Pendulum whose observation is the cosine and sine of its angle alone."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(g=(config or {}).get("g", 10.0))
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)  # type: ignore[no-untyped-call]
        return observation[:2], float(reward), terminated, truncated, info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = super().reset(seed=seed, options=options)
        return observation[:2], info
