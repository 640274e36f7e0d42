"""One agent picks a number, the other one guesses it: agents that act at different times."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from hpc.rllib.env.multi_agent_env import MultiAgentEnv


class GuessTheNumberGame(MultiAgentEnv):
    """Agent 0 picks; agent 1 asks whether it is lower (0), higher (1) or equal (2) to a number. Each question gives
    agent 0 a point. A right guess gives agent 1 100 points and costs agent 0 as many. No guess in
    time gives agent 0 100.

    ``config``: `max_number` (3), `max_steps` (20).
    """

    MAX_NUMBER = 3
    MAX_STEPS = 20

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__()
        config = config or {}
        self.max_number = config.get("max_number", self.MAX_NUMBER)
        self.max_steps = config.get("max_steps", self.MAX_STEPS)
        self.agents = self.possible_agents = [0, 1]
        self.observation_spaces = {agent: gym.spaces.Discrete(2) for agent in self.agents}
        self.action_spaces = {agent: gym.spaces.MultiDiscrete([3, self.max_number]) for agent in self.agents}
        self._number: int | None = None
        self._step = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._step, self._number = 0, None
        return {0: 0}, {}

    def step(self, action_dict: dict[Any, Any]) -> Any:
        if 0 in action_dict:
            self._number = int(action_dict[0][1])
            return {1: 0}, {0: 0}, {0: False, "__all__": False}, {0: False, "__all__": False}, {}
        if self._number is None:
            raise ValueError("Agent 0 has not picked a number yet: call reset(), and give its action first.")
        question, number = (int(part) for part in action_dict[1])
        is_right = question == 2 and number == self._number
        if question == 2:
            rewards = {1: 100 * is_right, 0: -100 * is_right}
        else:
            rewards = {1: int(number > self._number if question == 0 else number < self._number), 0: 1}
        self._step += 1
        is_late = self._step >= self.max_steps
        if is_late and not is_right:
            rewards[0] = 100
        return {1: 0}, rewards, {1: is_right, "__all__": is_right}, {1: False, "__all__": is_late}, {}
