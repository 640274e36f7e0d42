"""A time axis in the batch, for modules with a state."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.connectors.common.modules import is_stateful, max_seq_len
from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Rows
from hpc.rllib.core import DEFAULT_MODULE_ID
from hpc.rllib.core.columns import Columns
from hpc.rllib.utils.spaces.space_utils import BatchedNdArray
from hpc.rllib.utils.spaces.space_utils import batch as batch_records
from hpc.rllib.utils.trees import concatenate, map_tree


def split_and_zero_pad(records: list[Any], length: int) -> list[Any]:
    """Sequences of a length, the last one padded with zeros, of records or arrays of them."""
    parts = []
    for record in records:
        first = record
        while isinstance(first, (dict, tuple)):
            first = next(iter(first.values())) if isinstance(first, dict) else first[0]
        has_rows = isinstance(first, BatchedNdArray)
        parts.append(map_tree(np.asarray, record) if has_rows else batch_records([record]))
    whole = concatenate(parts)

    def cut(leaf: np.ndarray) -> np.ndarray:
        pad = -len(leaf) % length
        padded = np.concatenate([leaf, np.zeros((pad,) + leaf.shape[1:], leaf.dtype)])
        return BatchedNdArray(padded.reshape((-1, length) + leaf.shape[1:]))

    return [map_tree(cut, whole)]


class AddTimeDimToBatchAndZeroPad(ConnectorV2):
    """Add a time axis of 1 before acting; for the learner cut sequences, with their lengths and a loss mask."""

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
        """Leave them: the module's actor adds the axis where it needs one."""

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
        """Add the time axis, for modules with a state."""
        shared_data = {} if shared_data is None else shared_data
        if rl_module is None or Columns.STATE_IN in batch or not rl_module.is_stateful():
            return batch
        if not self._as_learner_connector:
            for column in batch:
                self.foreach_batch_item_change_in_place(batch, column, lambda r, e, a, m: self._lifted(rl_module, r, m))
            shared_data["_added_single_ts_time_rank"] = True
            return batch
        for column, by_key in batch.items():
            if column == Columns.INFOS:
                continue
            for key, records in by_key.items():
                module_id = key[2] if len(key) == 3 else None
                if is_stateful(rl_module, module_id):
                    by_key[key] = split_and_zero_pad(records, max_seq_len(rl_module, module_id))
                    shared_data[f"_zero_padded_for_mid={module_id or DEFAULT_MODULE_ID}"] = True
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
            if is_stateful(rl_module, episode.module_id):
                self._add_masks(batch, episode, max_seq_len(rl_module, episode.module_id), shared_data)
        return batch

    @staticmethod
    def _lifted(rl_module: Any, record: Any, module_id: Any) -> Any:
        if module_id is not None and not is_stateful(rl_module, module_id):
            return record
        return map_tree(lambda leaf: np.expand_dims(leaf, 1 if isinstance(leaf, BatchedNdArray) else 0), record)

    def _add_masks(self, batch: Batch, episode: Any, length: int, shared_data: dict[str, Any]) -> None:
        steps = len(episode)
        lengths = np.array([min(length, steps - at) for at in range(0, steps, length)], np.int32)
        self.add_n_batch_items(batch, Columns.SEQ_LENS, lengths, len(lengths), episode)
        if not shared_data.get("_added_loss_mask_for_valid_episode_ts"):
            mask = np.arange(length)[None, :] < lengths[:, None]
            self.add_n_batch_items(batch, Columns.LOSS_MASK, mask, len(mask), episode)
