"""All columns of episodes in the learner's batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.core.columns import Columns


class AddColumnsFromEpisodesToTrainBatch(ConnectorV2):
    """Add actions, rewards, ends and the module's outputs of all steps; columns that the batch has are left."""

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
        """Add the columns."""
        batch = {} if batch is None else batch
        had = set(batch) | {Columns.STATE_IN, Columns.STATE_OUT}
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
            steps = len(episode)
            whole, last = slice(0, steps), np.arange(steps) == steps - 1
            data = {
                Columns.ACTIONS: episode.get_actions(whole),
                Columns.REWARDS: episode.get_rewards(whole),
                Columns.TERMINATEDS: last & bool(episode.is_terminated),
                Columns.TRUNCATEDS: last & bool(episode.is_truncated),
            }
            for column in episode.extra_model_outputs:
                data[column] = episode.get_extra_model_outputs(column, whole)
            for column, records in data.items():
                if column not in had:
                    self.add_n_batch_items(batch, column, records, steps, episode)
        return batch
