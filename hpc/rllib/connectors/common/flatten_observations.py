"""Flat vectors of nested and discrete observations."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Rows
from hpc.rllib.core.columns import Columns
from hpc.rllib.utils.spaces.space_utils import batch as batch_records
from hpc.rllib.utils.spaces.space_utils import flat_size, flatten


class FlattenObservations(ConnectorV2):
    """Make one float32 vector of each observation: discrete parts one-hot, dicts by their sorted keys.

    Args:
        multi_agent: Whether spaces are Dicts by agent.
        agent_ids: Agents whose observations are flattened; None for all.
        as_learner_connector: Whether it works on whole episodes for the learner.
        keys_to_remove: Keys of Dict observations that are left out.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        multi_agent: bool = False,
        agent_ids: Collection[Any] | None = None,
        as_learner_connector: bool = False,
        keys_to_remove: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self._multi_agent = multi_agent
        self._agent_ids = agent_ids
        self._as_learner_connector = as_learner_connector
        self._keys_to_remove = keys_to_remove or []
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def _kept(self, space: Any) -> Any:
        """The space of which vectors are made."""
        if not self._keys_to_remove:
            return space
        if not isinstance(space, gym.spaces.Dict):
            raise TypeError(f"keys_to_remove={self._keys_to_remove} needs observations of a Dict space, not of {space}")
        return gym.spaces.Dict({key: part for key, part in space.items() if key not in self._keys_to_remove})

    def _flat(self, space: Any) -> Any:
        return gym.spaces.Box(float("-inf"), float("inf"), (flat_size(self._kept(space)),), np.float32)

    def _is_flattened(self, agent_id: Any) -> bool:
        return not (self._multi_agent and self._agent_ids is not None and agent_id not in self._agent_ids)

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        """A Box of one axis, or one for each agent."""
        if not self._multi_agent:
            return self._flat(input_observation_space)
        spaces = input_observation_space.spaces
        return gym.spaces.Dict({a: self._flat(s) if self._is_flattened(a) else s for a, s in spaces.items()})

    def _flattened(self, obs: Any, agent_id: Any, lead: int) -> Any:
        if not self._is_flattened(agent_id):
            return obs
        space = self.input_observation_space
        return flatten(obs, self._kept(space[agent_id] if self._multi_agent else space), lead=lead)

    def on_rows(self, rows: Rows) -> None:
        """Flatten the observations of all environments."""
        rows.obs = self._flattened(rows.obs, rows.agent_id, 1)

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
        """Flatten the last observation of each episode in place, or add all of them to the learner's batch."""
        for episode in self.single_agent_episode_iterator(episodes):
            if not self._as_learner_connector:
                flat = self._flattened(episode.get_observations(-1), episode.agent_id, 0)
                episode.set_observations(at_indices=-1, new_data=flat)
                episode.observation_space = self._space_of(episode.agent_id)
                continue
            records = episode.get_observations(slice(0, len(episode)))
            records = batch_records(records) if isinstance(records, list) else records
            flat = self._flattened(records, episode.agent_id, 1)
            self.add_n_batch_items(batch, Columns.OBS, flat, len(episode), episode)
        return batch

    def _space_of(self, agent_id: Any) -> Any:
        return self.observation_space[agent_id] if self._multi_agent else self.observation_space
