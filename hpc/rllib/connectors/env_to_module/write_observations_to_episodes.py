"""The batch's observations written back into the episodes."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Rows
from hpc.rllib.core.columns import Columns


class WriteObservationsToEpisodes(ConnectorV2):
    """Write what other connectors put into the batch over the last observation of each episode."""

    def on_rows(self, rows: Rows) -> None:
        """Leave them: fragments hold what the module sees."""

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
        """Write over the last observation of each episode.

        Raises:
            ValueError: the batch has no observations yet.
        """
        observations = (batch or {}).get(Columns.OBS)
        if observations is None:
            raise ValueError(
                f"`batch` must already have a column named {Columns.OBS} in it for this connector to work!"
            )
        for episode, record in self.single_agent_episode_iterator(episodes, zip_with_batch_column=observations):
            record = record[-1] if isinstance(record, list) else record
            episode.set_observations(at_indices=-1, new_data=record)
            episode.observation_space = self.observation_space
        return batch
