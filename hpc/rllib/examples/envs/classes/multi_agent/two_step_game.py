"""A game of two steps that two agents win only together."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.env.multi_agent_env import MultiAgentEnv

ENV_STATE = "state"
AGENTS = (0, 1)


class TwoStepGame(MultiAgentEnv):
    """In the first step agent 0 chooses the second one: 7 points for sure, or 0, 1 or 8 by what both do there.

    ``config``: `one_hot_state_encoding`, and with it `separate_state_space`; `actions_are_logits` takes probabilities.
    """

    def __init__(self, env_config: dict[str, Any] | None = None) -> None:
        super().__init__()
        config = env_config or {}
        self.actions_are_logits = config.get("actions_are_logits", False)
        self.one_hot_state_encoding = config.get("one_hot_state_encoding", False)
        self.with_state = self.one_hot_state_encoding and config.get("separate_state_space", False)
        self.agents = self.possible_agents = list(AGENTS)
        self._rng = np.random.default_rng()
        self._stage = 0
        self.observation_space = self._space()
        self.action_space = gym.spaces.Discrete(2)
        self.observation_spaces = dict.fromkeys(AGENTS, self.observation_space)
        self.action_spaces = dict.fromkeys(AGENTS, self.action_space)

    def _space(self) -> gym.Space[Any]:
        if not self.one_hot_state_encoding:
            return gym.spaces.Discrete(6)
        seen = gym.spaces.MultiDiscrete([2, 2, 2, 3])
        return (
            gym.spaces.Dict({"obs": seen, ENV_STATE: gym.spaces.MultiDiscrete([2, 2, 2])}) if self.with_state else seen
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._stage = 0
        return self._observations(), {}

    def step(self, action_dict: dict[Any, Any]) -> Any:
        if self.actions_are_logits:
            action_dict = {agent: self._rng.choice(2, p=given) for agent, given in action_dict.items()}
        is_over = self._stage > 0
        points = 0
        if self._stage == 0:
            self._stage = 1 + int(action_dict[0])
        else:
            both = int(action_dict[0]) + int(action_dict[1])
            points = 7 if self._stage == 1 else (0, 1, 8)[both]
        rewards = dict.fromkeys(AGENTS, points / 2)
        infos = {agent: {"done": is_over} for agent in AGENTS}
        return self._observations(), rewards, {"__all__": is_over}, {"__all__": False}, infos

    def _observations(self) -> dict[int, Any]:
        if not self.one_hot_state_encoding:
            return {agent: self._stage + 3 * agent for agent in AGENTS}
        state = np.eye(3, dtype=np.int64)[self._stage]
        seen = {agent: np.append(state, agent + 1) for agent in AGENTS}
        return {agent: {"obs": seen[agent], ENV_STATE: state} for agent in AGENTS} if self.with_state else dict(seen)


class TwoStepGameWithGroupedAgents(MultiAgentEnv):
    """The same, where both agents are one group that acts as one agent, `agents`."""

    def __init__(self, env_config: dict[str, Any] | None = None) -> None:
        super().__init__()
        game = TwoStepGame(env_config)
        pair = gym.spaces.Tuple([game.observation_space] * 2), gym.spaces.Tuple([game.action_space] * 2)
        self.env = game.with_agent_groups(groups={"agents": list(AGENTS)}, obs_space=pair[0], act_space=pair[1])
        self.agents = self.possible_agents = ["agents"]
        self.observation_spaces = {"agents": pair[0]}
        self.action_spaces = {"agents": pair[1]}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.env.reset(seed=seed, options=options)

    def step(self, action_dict: dict[Any, Any]) -> Any:
        return self.env.step(action_dict)
