"""The observations that steps led to, in the learner's batch."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.core.columns import Columns


class AddNextObservationsFromEpisodesToTrainBatch(ConnectorV2):
    """Add what each step led to, unless the batch has it."""

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
        if Columns.NEXT_OBS not in batch:
            for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
                records = episode.get_observations(slice(1, len(episode) + 1))
                self.add_n_batch_items(batch, Columns.NEXT_OBS, records, len(episode), episode)
        return batch
