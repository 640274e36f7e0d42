"""Lists of records by episode, made of arrays."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Acts
from hpc.rllib.utils.spaces.space_utils import unbatch


class UnBatchToIndividualItems(ConnectorV2):
    """Undo what `BatchIndividualItems` did, by what it remembered."""

    def on_actions(self, acts: Acts) -> None:
        """Leave them: the environments take arrays."""

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
        """Make lists of records by episode and agent."""
        places = (shared_data or {}).get("memorized_map_structure")
        if places is None:
            return {column: unbatch(data) for column, data in batch.items()}
        if isinstance(places, list):
            return {column: self._by_key(data, [(one,) for one in places]) for column, data in batch.items()}
        return {
            module_id: {
                column: self._by_key(data, [(*place, module_id) for place in places[module_id]])
                for column, data in part.items()
            }
            for module_id, part in batch.items()
        }

    @staticmethod
    def _by_key(data: Any, keys: list[tuple[Any, ...]]) -> dict[tuple[Any, ...], list[Any]]:
        out: dict[tuple[Any, ...], list[Any]] = {}
        for key, record in zip(keys, unbatch(data)):
            out.setdefault(key, []).append(record)
        return out
