"""Groups of agents that are one agent each."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from hpc.rllib.env.multi_agent_env import MultiAgentEnv

#: The key of each agent's own rewards in a group's infos.
GROUP_REWARDS = "_group_rewards"
GROUP_INFO = "_group_info"


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
        out: dict[Any, Any] = OrderedDict()
        for agent_id, item in items.items():
            group_id = self.agent_id_to_group.get(agent_id)
            if group_id is None:
                out[agent_id] = item
            elif group_id not in out:
                members = [items.get(member) for member in self.groups[group_id]]
                out[group_id] = {GROUP_INFO: members} if info else members
        return dict(out)
