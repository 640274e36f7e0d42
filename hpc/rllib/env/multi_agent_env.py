"""Environments with several agents, which act all at once or in turn, come and go."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

#: The key of each agent's own rewards in a group's infos.
GROUP_REWARDS = "_group_rewards"
GROUP_INFO = "_group_info"


class MultiAgentEnv(gym.Env):
    """Derive from it, and write ``reset`` and ``step``; all that they take and return are dicts by agent.

    Agents that have an observation act next. ``terminateds`` and ``truncateds`` also have "__all__".

    Attributes:
        agents: The agents of the running episode.
        possible_agents: All agents that there can be.
        observation_spaces, action_spaces: Spaces by agent. Without them ``observation_space`` and ``action_space``
            hold:
            Dicts by agent, or one space for every agent.
    """

    observation_spaces: dict[Any, gym.Space[Any]] | None = None
    action_spaces: dict[Any, gym.Space[Any]] | None = None
    agents: list[Any] = []
    possible_agents: list[Any] = []
    observation_space: Any = None
    action_space: Any = None

    def __init__(self) -> None:
        super().__init__()
        if not hasattr(self, "_agent_ids"):
            self._agent_ids: set[Any] = set()
        if not self.agents:
            self.agents = list(self._agent_ids)
        if not self.possible_agents:
            self.possible_agents = list(self.agents)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode. Returns observations and infos of those agents that act first."""
        super().reset(seed=seed, options=options)

    def step(self, action_dict: dict[Any, Any]) -> Any:
        """Act. Returns observations, rewards, terminateds, truncateds and infos."""
        raise NotImplementedError(f"{type(self).__name__} needs a method step(action_dict)")

    def render(self) -> Any:
        """An image of it, if it has one."""

    def get_observation_space(self, agent_id: Any) -> Any:
        """The space of an agent's observations."""
        return self._space_for(agent_id, self.observation_spaces, self.observation_space)

    def get_action_space(self, agent_id: Any) -> Any:
        """The space of an agent's actions."""
        return self._space_for(agent_id, self.action_spaces, self.action_space)

    @staticmethod
    def _space_for(agent_id: Any, by_agent: Any, space: Any) -> Any:
        if by_agent is not None:
            return by_agent[agent_id]
        if isinstance(space, gym.spaces.Dict) and agent_id in space.spaces:
            return space[agent_id]
        return space

    @property
    def num_agents(self) -> int:
        """How many agents the running episode has."""
        return len(self.agents)

    @property
    def max_num_agents(self) -> int:
        """How many agents there can be."""
        return len(self.possible_agents)

    def with_agent_groups(self, groups: dict[str, list[Any]], obs_space: Any = None, act_space: Any = None) -> Any:
        """The same environment, where each group of agents is one agent."""
        return GroupAgentsWrapper(self, groups, obs_space, act_space)


def make_multi_agent(env_name_or_creator: str | Callable[[Any], gym.Env]) -> type[MultiAgentEnv]:
    """A class of environments in which several agents each have an environment of their own, of this kind.

    ``env_config["num_agents"]`` says how many; their ids are 0, 1 and so on.
    """

    class MultiEnv(MultiAgentEnv):
        """Agents that each have an environment of their own."""

        def __init__(self, config: dict[str, Any] | None = None) -> None:
            super().__init__()
            settings = {} if config is None else copy.deepcopy(config)
            count = settings.pop("num_agents", 1)
            if isinstance(env_name_or_creator, str):
                name = env_name_or_creator
                self.envs = [gym.make(name, disable_env_checker=True) for _ in range(count)]
            else:
                self.envs = [env_name_or_creator(settings) for _ in range(count)]
            self.terminateds: set[int] = set()
            self.truncateds: set[int] = set()
            self.observation_spaces = {at: env.observation_space for at, env in enumerate(self.envs)}
            self.action_spaces = {at: env.action_space for at, env in enumerate(self.envs)}
            self.agents = list(range(count))
            self.possible_agents = list(self.agents)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            """Begin all episodes. Their seeds follow each other."""
            self.terminateds, self.truncateds = set(), set()
            pairs = [
                env.reset(seed=None if seed is None else seed + at, options=options) for at, env in enumerate(self.envs)
            ]
            return {at: obs for at, (obs, _) in enumerate(pairs)}, {at: info for at, (_, info) in enumerate(pairs)}

        def step(self, action_dict: dict[Any, Any]) -> Any:
            """Step the environments of those agents that act."""
            if not action_dict:
                raise ValueError("The environment is expecting an action for at least one agent.")
            out: tuple[dict[Any, Any], ...] = ({}, {}, {}, {}, {})
            for at, action in action_dict.items():
                for part, value in zip(out, self.envs[at].step(action)):
                    part[at] = value
                if out[2][at]:
                    self.terminateds.add(at)
                if out[3][at]:
                    self.truncateds.add(at)
            out[2]["__all__"] = len(self.terminateds | self.truncateds) == len(self.envs)
            out[3]["__all__"] = len(self.truncateds) == len(self.envs)
            return out

        def render(self) -> Any:
            """The images of all environments side by side."""
            images: list[Any] = [env.render() for env in self.envs]
            wide = images[0].shape[1] > images[0].shape[0]
            return np.concatenate(images, axis=0 if wide else 1)

        def close(self) -> None:
            """Close all environments."""
            for env in self.envs:
                env.close()

    return MultiEnv


class GroupAgentsWrapper(MultiAgentEnv):
    """Joins agents: a group's observation and action are lists by agent, its reward is the sum.

    Args:
        groups: The agents of each group; an agent that is in none stays alone.
        obs_space, act_space: Tuple spaces of a group.
    """

    def __init__(
        self, env: MultiAgentEnv, groups: dict[str, list[Any]], obs_space: Any = None, act_space: Any = None
    ) -> None:
        super().__init__()
        self.env = env
        self.groups = groups
        self.agent_id_to_group: dict[Any, str] = {}
        for group_id, agents in groups.items():
            for agent_id in agents:
                if agent_id in self.agent_id_to_group:
                    raise ValueError(f"Agent id {agent_id} is in multiple groups")
                self.agent_id_to_group[agent_id] = group_id
        alone = [agent_id for agent_id in env.possible_agents if agent_id not in self.agent_id_to_group]
        self.agents = self.possible_agents = [*groups, *alone]
        if obs_space is not None:
            self.observation_space = obs_space
        if act_space is not None:
            self.action_space = act_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._grouped(observations), self._grouped(infos, info=True)

    def step(self, action_dict: dict[Any, Any]) -> Any:
        """Give each agent its part of the group's action."""
        actions: dict[Any, Any] = {}
        for group_id, action in action_dict.items():
            if group_id in self.groups:
                actions.update(zip(self.groups[group_id], action))
            else:
                actions[group_id] = action
        observations, rewards, terminateds, truncateds, infos = self.env.step(actions)
        grouped_infos = self._grouped(infos, info=True)
        grouped_rewards = self._grouped(rewards)
        for group_id, values in grouped_rewards.items():
            if group_id in self.groups:
                grouped_rewards[group_id] = sum(value for value in values if value is not None)
                grouped_infos.setdefault(group_id, {})[GROUP_REWARDS] = values
        return (
            self._grouped(observations),
            grouped_rewards,
            self._ends(terminateds),
            self._ends(truncateds),
            grouped_infos,
        )

    def _ends(self, flags: dict[Any, bool]) -> dict[Any, bool]:
        grouped = self._grouped({agent_id: flag for agent_id, flag in flags.items() if agent_id != "__all__"})
        out = {key: all(value) if key in self.groups else value for key, value in grouped.items()}
        out["__all__"] = flags["__all__"]
        return out

    def _grouped(self, items: dict[Any, Any], info: bool = False) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        for agent_id, item in items.items():
            group_id = self.agent_id_to_group.get(agent_id)
            if group_id is None:
                out[agent_id] = item
            elif group_id not in out:
                members = [items.get(member) for member in self.groups[group_id]]
                out[group_id] = {GROUP_INFO: members} if info else members
        return out
