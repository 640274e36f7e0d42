"""Lists of records by environment, made of records by episode."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Acts
from hpc.rllib.core.columns import Columns
from hpc.rllib.env.single_agent_episode import SingleAgentEpisode
from hpc.rllib.utils.spaces.space_utils import batch as batch_records


class ListifyDataForVectorEnv(ConnectorV2):
    """Order all records as the vector environment has its parts."""

    def on_actions(self, acts: Acts) -> None:
        """Leave them: they are in the environments' order."""

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
        """Make a list of each column: a record by environment, or a dict by agent for each."""
        single = isinstance(episodes[0], SingleAgentEpisode)
        place = {episode.id_: at for at, episode in enumerate(episodes)}
        for column, by_key in batch.items():
            if single:
                batch[column] = [record for records in by_key.values() for record in records]
                if column in (Columns.ACTIONS, Columns.ACTIONS_FOR_ENV):
                    batch[column] = batch_records(batch[column])
                continue
            listed: list[dict[Any, Any]] = [{} for _ in episodes]
            for (episode_id, agent_id, _), records in by_key.items():
                listed[place[episode_id]][agent_id] = records[0]
            batch[column] = listed
        return batch
