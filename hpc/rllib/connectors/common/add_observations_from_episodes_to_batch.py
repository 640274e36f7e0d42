"""Observations of episodes in the batch."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Rows
from hpc.rllib.core.columns import Columns


class AddObservationsFromEpisodesToBatch(ConnectorV2):
    """Add the last observation of each episode, or all of them for the learner, unless the batch has some."""

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        as_learner_connector: bool = False,
        **kwargs: Any,
    ) -> None:
        self._as_learner_connector = as_learner_connector
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def on_rows(self, rows: Rows) -> None:
        """Leave them: they are the batch."""

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
        """Add the observations."""
        if Columns.OBS in batch:
            return batch
        for episode in self.single_agent_episode_iterator(episodes, not self._as_learner_connector):
            if self._as_learner_connector:
                records = episode.get_observations(slice(0, len(episode)))
                self.add_n_batch_items(batch, Columns.OBS, records, len(episode), episode)
            else:
                self.add_batch_item(batch, Columns.OBS, episode.get_observations(-1), episode)
        return batch
