"""Observations that hold the last actions and rewards as well."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Rows
from hpc.rllib.utils.spaces.space_utils import batch as batch_records
from hpc.rllib.utils.spaces.space_utils import flat_size, flatten, flatten_to_single_ndarray


class PrevActionsPrevRewards(ConnectorV2):
    """Make a Dict of each observation: itself, the last actions (one-hot) and the last rewards; 0 before the start.

    Args:
        multi_agent: Whether spaces are Dicts by agent.
        n_prev_actions, n_prev_rewards: How many of each.
    """

    ORIG_OBS_KEY = "_orig_obs"
    PREV_ACTIONS_KEY = "prev_n_actions"
    PREV_REWARDS_KEY = "prev_n_rewards"

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        multi_agent: bool = False,
        n_prev_actions: int = 1,
        n_prev_rewards: int = 1,
        **kwargs: Any,
    ) -> None:
        self._multi_agent = multi_agent
        self.n_prev_actions = n_prev_actions
        self.n_prev_rewards = n_prev_rewards
        self.looks_back = max(n_prev_actions, n_prev_rewards)
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def _with_last(self, obs_space: Any, act_space: Any) -> Any:
        inf = float("inf")
        parts = {self.ORIG_OBS_KEY: obs_space}
        if self.n_prev_actions:
            shape = (flat_size(act_space) * self.n_prev_actions,)
            bound = 1.0 if isinstance(act_space, (gym.spaces.Discrete, gym.spaces.MultiDiscrete)) else inf
            parts[self.PREV_ACTIONS_KEY] = gym.spaces.Box(0.0 if bound == 1.0 else -inf, bound, shape, np.float32)
        if self.n_prev_rewards:
            parts[self.PREV_REWARDS_KEY] = gym.spaces.Box(-inf, inf, (self.n_prev_rewards,), np.float32)
        return gym.spaces.Dict(parts)

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """A Dict space, or one for each agent."""
        if not self._multi_agent:
            return self._with_last(input_observation_space, input_action_space)
        spaces = input_observation_space.spaces
        return gym.spaces.Dict({a: self._with_last(space, input_action_space[a]) for a, space in spaces.items()})

    def on_rows(self, rows: Rows) -> None:
        """Shift the last actions and rewards of all environments by one."""
        width = len(rows.first)
        space = self.input_action_space[rows.agent_id] if self._multi_agent else self.input_action_space
        size = flat_size(space)
        held = rows.memory.get(self)
        if held is None:
            actions = np.zeros((width, self.n_prev_actions, size), np.float32)
            rewards = np.zeros((width, self.n_prev_rewards), np.float32)
        else:
            actions, rewards = (_shifted(one) for one in held)
            if self.n_prev_actions:
                actions[:, -1] = 0 if rows.actions is None else flatten(rows.actions, space, lead=1)
            if self.n_prev_rewards:
                rewards[:, -1] = 0 if rows.rewards is None else rows.rewards
            if rows.valid is not None:
                actions[~rows.valid], rewards[~rows.valid] = held[0][~rows.valid], held[1][~rows.valid]
        actions[rows.first] = 0
        rewards[rows.first] = 0
        rows.memory[self] = (actions, rewards)
        rows.obs = {self.ORIG_OBS_KEY: rows.obs}
        if self.n_prev_actions:
            rows.obs[self.PREV_ACTIONS_KEY] = actions.reshape(width, -1)
        if self.n_prev_rewards:
            rows.obs[self.PREV_REWARDS_KEY] = rewards

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: Batch | None,
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Replace the last observation of each episode."""
        for episode in self.single_agent_episode_iterator(episodes):
            assert not episode.is_numpy, "the episode's records are arrays: only one that still grows can be changed"
            out = {self.ORIG_OBS_KEY: episode.get_observations(-1)}
            if self.n_prev_actions:
                actions = episode.get_actions(slice(-self.n_prev_actions, None), fill=0.0, one_hot_discrete=True)
                out[self.PREV_ACTIONS_KEY] = np.ravel(flatten_to_single_ndarray(batch_records(actions)))
            if self.n_prev_rewards:
                out[self.PREV_REWARDS_KEY] = np.array(
                    episode.get_rewards(slice(-self.n_prev_rewards, None), fill=0.0), np.float32
                )
            episode.set_observations(at_indices=-1, new_data=out)
            space = self.observation_space
            episode.observation_space = space[episode.agent_id] if self._multi_agent else space
        return batch


def _shifted(held: np.ndarray) -> np.ndarray:
    out = np.zeros_like(held)
    out[:, :-1] = held[:, 1:]
    return out
