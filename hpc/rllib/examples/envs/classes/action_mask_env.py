"""An environment that says at each step which actions are allowed, and refuses the others."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.examples.envs.classes.random_env import RandomEnv


class ActionMaskEnv(RandomEnv):
    """Observations are a dict of `observations` and `action_mask` (1.0: allowed); an action without permission raises
    ValueError. At least one action is allowed always."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        if not isinstance(self.action_space, gym.spaces.Discrete):
            raise ValueError(f"A mask is for an action space Discrete, not {self.action_space}.")
        self.observation_space = gym.spaces.Dict(
            {
                "action_mask": gym.spaces.Box(0.0, 1.0, (int(self.action_space.n),)),
                "observations": self.observation_space,
            }
        )
        self.valid_actions = np.ones(int(self.action_space.n))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(seed=seed, options=options)
        return self._masked(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.valid_actions[action]:
            raise ValueError(f"The action {action} is not allowed: the mask is {self.valid_actions}.")
        observation, reward, terminated, truncated, info = super().step(action)
        return self._masked(observation), reward, terminated, truncated, info

    def _masked(self, observation: dict[str, Any]) -> dict[str, Any]:
        drawn = observation["action_mask"]
        mask = np.round(drawn)
        mask[np.argmax(drawn)] = 1.0
        self.valid_actions = mask
        return {**observation, "action_mask": mask}
