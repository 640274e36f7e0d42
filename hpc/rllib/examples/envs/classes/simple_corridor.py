"""A corridor to walk to its end."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

LONGEST = 999


class SimpleCorridor(gym.Env):
    """Action 1 goes a step ahead, 0 one back; each costs 0.01, the end gives 1. `corridor_length` of ``config`` is 10
    unless given, and at most 999."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.action_space = gym.spaces.Discrete(2)
        self.observation_space = gym.spaces.Box(0.0, float(LONGEST), (1,), np.float32)
        self._place = 0
        self.set_corridor_length((config or {}).get("corridor_length", 10))

    def set_corridor_length(self, length: int) -> None:
        """Make it longer or shorter; ValueError above 999."""
        if length > LONGEST:
            raise ValueError(f"The corridor is at most {LONGEST} long, not {length}.")
        self.end_pos = length

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._place = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._place = max(0, self._place + (1 if action else -1))
        at_end = self._place >= self.end_pos
        return self._observation(), 1.0 if at_end else -0.01, at_end, False, {}

    def _observation(self) -> np.ndarray:
        return np.array([self._place], np.float32)
