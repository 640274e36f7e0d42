"""Environments of PettingZoo: those in which agents act in turn, and those in which all act at once."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from hpc.rllib.env.multi_agent_env import MultiAgentEnv


class PettingZooEnv(MultiAgentEnv):
    """An environment of PettingZoo's AEC interface: agents act one after another.

    A reward that an agent gets while others act comes with its next observation.
    """

    def __init__(self, env: Any) -> None:
        super().__init__()
        self.env = env
        env.reset()
        self._agent_ids = set(env.agents)
        self.agents = list(env.agents)
        self.possible_agents = list(getattr(env, "possible_agents", env.agents))
        self.observation_spaces = {agent: env.observation_space(agent) for agent in self.possible_agents}
        self.action_spaces = {agent: env.action_space(agent) for agent in self.possible_agents}
        self.observation_space = gym.spaces.Dict(self.observation_spaces)
        self.action_space = gym.spaces.Dict(self.action_spaces)
        self.render_mode = getattr(env, "render_mode", None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode: the first agent has an observation."""
        self.env.reset(seed=seed, options=options)
        self.agents = list(self.env.agents)
        agent = self.env.agent_selection
        return {agent: self.env.observe(agent)}, {agent: dict(self.env.infos.get(agent, {}))}

    def step(self, action_dict: dict[Any, Any]) -> Any:
        """Act for the agent whose turn it is, and go on to the next one that lives."""
        self.env.step(action_dict[self.env.agent_selection])
        observations, rewards, infos = {}, {}, {}
        terminateds: dict[Any, bool] = {}
        truncateds: dict[Any, bool] = {}
        while self.env.agents:
            agent = self.env.agent_selection
            observations[agent], rewards[agent], ends, cut, infos[agent] = self.env.last()
            terminateds[agent], truncateds[agent] = bool(ends), bool(cut)
            if not (ends or cut):
                break
            self.env.step(None)
        self.agents = list(self.env.agents)
        gone = not self.env.agents
        terminateds["__all__"] = gone and all(terminateds.values())
        truncateds["__all__"] = gone and all(truncateds.values())
        if gone and not (terminateds["__all__"] or truncateds["__all__"]):
            terminateds["__all__"] = True
        return observations, rewards, terminateds, truncateds, infos

    def close(self) -> None:
        """Close it."""
        self.env.close()

    def render(self) -> Any:
        """What it renders."""
        return self.env.render()

    @property
    def get_sub_environments(self) -> Any:
        """PettingZoo's own object."""
        return self.env.unwrapped


class ParallelPettingZooEnv(MultiAgentEnv):
    """An environment of PettingZoo's parallel interface: all agents act at once."""

    def __init__(self, env: Any) -> None:
        super().__init__()
        self.par_env = env
        env.reset()
        self._agent_ids = set(env.agents)
        self.agents = list(env.agents)
        self.possible_agents = list(getattr(env, "possible_agents", env.agents))
        self.observation_spaces = {agent: env.observation_space(agent) for agent in self.possible_agents}
        self.action_spaces = {agent: env.action_space(agent) for agent in self.possible_agents}
        self.observation_space = gym.spaces.Dict(self.observation_spaces)
        self.action_space = gym.spaces.Dict(self.action_spaces)
        self.render_mode = getattr(env, "render_mode", None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode."""
        observations, infos = self.par_env.reset(seed=seed, options=options)
        self.agents = list(self.par_env.agents)
        return observations, infos or {}

    def step(self, action_dict: dict[Any, Any]) -> Any:
        """Act for all agents."""
        observations, rewards, terminateds, truncateds, infos = self.par_env.step(action_dict)
        self.agents = list(self.par_env.agents)
        terminateds, truncateds = dict(terminateds), dict(truncateds)
        ends = all(terminateds[agent] or truncateds[agent] for agent in terminateds)
        truncateds["__all__"] = all(truncateds.values())
        terminateds["__all__"] = ends and not truncateds["__all__"]
        return observations, rewards, terminateds, truncateds, infos

    def close(self) -> None:
        """Close it."""
        self.par_env.close()

    def render(self) -> Any:
        """What it renders."""
        return self.par_env.render()

    @property
    def get_sub_environments(self) -> Any:
        """PettingZoo's own object."""
        return self.par_env.unwrapped
