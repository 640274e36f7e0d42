"""CartPole whose observation is a dict with a dict and a tuple in it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv


class CartPoleWithDictObservationSpace(CartPoleEnv):
    """The four numbers of CartPole at different depths, of shapes (1,) and (), beside one that means nothing."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__()
        assert isinstance(self.observation_space, gym.spaces.Box)
        low, high = self.observation_space.low, self.observation_space.high

        def box(which: int, shape: tuple[int, ...]) -> gym.spaces.Box:
            return gym.spaces.Box(low[which], high[which], shape, np.float32)

        self._noise = gym.spaces.Discrete(3)
        angle = gym.spaces.Dict({"value": box(2, ()), "some_random_stuff": self._noise})
        velocities = gym.spaces.Tuple([box(1, (1,)), box(3, ())])
        parts = {"x-pos": box(0, (1,)), "angular-pos": angle, "velocs": velocities}
        self.observation_space = gym.spaces.Dict(parts)  # type: ignore[assignment]

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        observation, reward, terminated, truncated, info = super().step(action)  # type: ignore[no-untyped-call]
        return self._as_dict(observation), float(reward), terminated, truncated, info

    def reset(  # type: ignore[override]
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        observation, info = super().reset(seed=seed, options=options)
        return self._as_dict(observation), info

    def _as_dict(self, observation: np.ndarray) -> dict[str, Any]:
        place, speed, angle, turn = np.asarray(observation, np.float32)
        return {
            "x-pos": np.array([place]),
            "angular-pos": {"value": np.array(angle), "some_random_stuff": int(self.np_random.integers(3))},
            "velocs": (np.array([speed]), np.array(turn)),
        }
