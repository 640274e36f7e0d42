"""Arrays in the batch, made of lists of records."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.common.modules import is_multi
from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Rows
from hpc.rllib.core import DEFAULT_MODULE_ID
from hpc.rllib.core.columns import Columns
from hpc.rllib.utils.spaces.space_utils import BatchedNdArray
from hpc.rllib.utils.spaces.space_utils import batch as batch_records
from hpc.rllib.utils.trees import leaves


def _joined(column: str, records: list[Any]) -> Any:
    if column == Columns.INFOS:
        return records
    return batch_records(records, individual_items_already_have_batch_dim="auto")


class BatchIndividualItems(ConnectorV2):
    """Stack the records of each column, and remember which row is of which episode."""

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        multi_agent: bool = False,
        **kwargs: Any,
    ) -> None:
        self._multi_agent = multi_agent
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def on_rows(self, rows: Rows) -> None:
        """Leave them: they are arrays."""

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
        """Stack the records of each column."""
        if self._multi_agent:
            return {
                module_id: {
                    c: _joined(c, records) if isinstance(records, list) else records for c, records in part.items()
                }
                for module_id, part in batch.items()
            }
        out: Batch = {}
        for column, records in batch.items():
            if isinstance(records, list):
                out[column] = _joined(column, records)
                continue
            flat = [record for part in records.values() for record in part]
            out[column] = _joined(column, flat)
            if column == Columns.OBS and shared_data is not None:
                shared_data["memorized_map_structure"] = [
                    key[0] for key, part in records.items() for record in part for _ in range(_rows(record))
                ]
        return {DEFAULT_MODULE_ID: out} if is_multi(rl_module) else out


def _rows(record: Any) -> int:
    leaf = next(leaves(record))
    return len(leaf) if isinstance(leaf, BatchedNdArray) else 1
