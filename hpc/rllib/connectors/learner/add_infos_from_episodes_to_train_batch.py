"""Infos of episodes in the learner's batch."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.core.columns import Columns


class AddInfosFromEpisodesToTrainBatch(ConnectorV2):
    """Add the infos of before each step, unless the batch has some."""

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
        """Add the infos."""
        if Columns.INFOS not in batch:
            for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
                infos = list(episode.get_infos(slice(0, len(episode))))
                self.add_n_batch_items(batch, Columns.INFOS, infos, len(episode), episode)
        return batch
