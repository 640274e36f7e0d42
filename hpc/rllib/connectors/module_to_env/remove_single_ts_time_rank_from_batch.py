"""The batch without the time axis that was added before acting."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.connectors.common.modules import is_stateful
from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Acts
from hpc.rllib.core.columns import Columns
from hpc.rllib.utils.trees import map_tree


class RemoveSingleTsTimeRankFromBatch(ConnectorV2):
    """Take the time axis off all columns but the states, where one was added."""

    def on_actions(self, acts: Acts) -> None:
        """Leave them: they have no time axis."""

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
        """Take the time axis off."""
        if not (shared_data or {}).get("_added_single_ts_time_rank") or batch is None:
            return batch
        for column in batch:
            if column != Columns.STATE_OUT:
                self.foreach_batch_item_change_in_place(
                    batch, column, lambda r, e, a, m: self._lowered(rl_module, r, m)
                )
        return batch

    @staticmethod
    def _lowered(rl_module: Any, record: Any, module_id: Any) -> Any:
        if module_id is None or is_stateful(rl_module, module_id):
            return map_tree(lambda leaf: np.squeeze(leaf, axis=0), record)
        return record
