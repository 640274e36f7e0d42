"""Small environments for tests of runners."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.env.multi_agent_env import MultiAgentEnv


class Counting(gym.Env):
    """Observes how many steps the episode has; ends after ``length`` (3) steps, and fails where it is told to."""

    def __init__(self, config: Any = None) -> None:
        config = {} if config is None else config
        self.length = config.get("length", 3)
        self.fail_at = config.get("fail_at")
        self.place = getattr(config, "vector_index", None), getattr(config, "worker_index", None)
        self.observation_space = gym.spaces.Box(0, 100, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.steps = self.all_steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {"steps": 0}

    def step(self, action):
        self.steps += 1
        self.all_steps += 1
        if self.all_steps == self.fail_at:
            raise RuntimeError("the simulator crashed")
        observation = np.full(1, self.steps, np.float32)
        return observation, float(self.steps), self.steps >= self.length, False, {"steps": self.steps}


class Masked(gym.Env):
    """Allows some of five actions, and counts those that were not allowed."""

    def __init__(self, config: Any = None) -> None:
        mask = gym.spaces.Box(0, 1, (5,), np.int8)
        self.observation_space = gym.spaces.Dict(
            {"action_mask": mask, "observations": gym.spaces.Box(-1, 1, (3,), np.float32)}
        )
        self.action_space = gym.spaces.Discrete(5)
        self.refused = self.steps = 0

    def _observed(self):
        self.mask = np.zeros(5, np.int8)
        self.mask[self.np_random.integers(5, size=2)] = 1
        return {"action_mask": self.mask, "observations": self.np_random.random(3).astype(np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 7
        return self._observed(), {}

    def step(self, action):
        self.refused += int(not self.mask[action])
        self.left -= 1
        return self._observed(), 1.0, self.left == 0, False, {}


class Nested(gym.Env):
    """Nested observations and actions; a wrong action fails."""

    def __init__(self, config: Any = None) -> None:
        self.observation_space = gym.spaces.Dict(
            {
                "a": gym.spaces.Discrete(3),
                "b": gym.spaces.Tuple([gym.spaces.Box(-1, 1, (2, 2), np.float32), gym.spaces.MultiDiscrete([2, 3])]),
            }
        )
        box = gym.spaces.Box(-3, 5, (2,), np.float32)
        self.action_space = gym.spaces.Tuple([gym.spaces.Discrete(2, start=4), box])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        return self.observation_space.sample(), 1.0, bool(self.np_random.random() < 0.1), False, {}


class InTurn(MultiAgentEnv):
    """Agents x and y act in turn; x leaves after its second action, y plays on alone for two more."""

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.agents = self.possible_agents = ["x", "y"]
        space = gym.spaces.Box(0, 100, (1,), np.float32)
        self.observation_spaces = {"x": space, "y": space}
        self.action_spaces = {"x": gym.spaces.Discrete(2), "y": gym.spaces.Discrete(3)}

    def _seen(self, agent):
        return {agent: np.full(1, self.turn, np.float32)}

    def reset(self, *, seed=None, options=None):
        self.turn = 0
        return self._seen("x"), {}

    def step(self, action_dict):
        agent = ["x", "y", "x", "y", "y", "y"][self.turn]
        assert list(action_dict) == [agent], (action_dict, self.turn)
        self.turn += 1
        if self.turn == 6:
            return self._seen("y"), {"y": 1.0}, {"__all__": True}, {"__all__": False}, {}
        following = ["x", "y", "x", "y", "y", "y"][self.turn]
        ends = {"x": self.turn == 3, "__all__": False}
        return self._seen(following), {agent: 1.0}, ends, {"__all__": False}, {}
