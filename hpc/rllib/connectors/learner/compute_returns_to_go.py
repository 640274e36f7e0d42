"""Discounted sums of the rewards to come, in the learner's batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.core.columns import Columns


class ComputeReturnsToGo(ConnectorV2):
    """Add the discounted return of each step to the end of its episode.

    Args:
        gamma: The discount of one step.
    """

    def __init__(self, input_observation_space: Any = None, input_action_space: Any = None, *, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(input_observation_space, input_action_space)

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
        """Add the returns."""
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
            returns = np.array(episode.get_rewards(), np.float32)
            for t in range(len(returns) - 2, -1, -1):
                returns[t] += self.gamma * returns[t + 1]
            self.add_n_batch_items(batch, Columns.RETURNS_TO_GO, returns, len(episode), episode)
        return batch
