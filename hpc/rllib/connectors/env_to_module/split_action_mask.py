"""Masks of allowed actions, taken out of the observations into a column of their own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Rows
from hpc.rllib.core.masks import ACTION_MASK, split_mask, split_mask_obs


class SplitActionMask(ConnectorV2):
    """Take the mask out of Dict observations, so that the default modules let through allowed actions only.

    Args:
        key: The mask's key in the observations.
        multi_agent: Whether spaces are Dicts by agent; agents without a mask stay as they are.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        key: str = ACTION_MASK,
        multi_agent: bool = False,
        **kwargs: Any,
    ) -> None:
        self._key = key
        self._multi_agent = multi_agent
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """The space without masks."""
        if not self._multi_agent:
            return split_mask(input_observation_space, self._key)[0]
        spaces = input_observation_space.spaces
        return gym.spaces.Dict({agent_id: split_mask(space, self._key)[0] for agent_id, space in spaces.items()})

    def _masked(self, agent_id: Any) -> bool:
        space = self.input_observation_space
        space = space[agent_id] if self._multi_agent else space
        return split_mask(space, self._key)[1]

    def on_rows(self, rows: Rows) -> None:
        """Take the masks of all environments out."""
        rows.mask = None
        if self._masked(rows.agent_id):
            rows.obs, rows.mask = split_mask_obs(rows.obs, self._key)

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: Batch,
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Take the mask out of the last observation of each episode."""
        for episode in self.single_agent_episode_iterator(episodes):
            if self._masked(episode.agent_id):
                obs, mask = split_mask_obs(episode.get_observations(-1), self._key)
                episode.set_observations(at_indices=-1, new_data=obs)
                space = self.observation_space
                episode.observation_space = space[episode.agent_id] if self._multi_agent else space
                self.add_batch_item(batch, ACTION_MASK, mask, episode)
        return batch
