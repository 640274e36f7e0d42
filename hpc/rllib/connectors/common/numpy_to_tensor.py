"""Tensors in the batch, made of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Rows
from hpc.rllib.core.columns import Columns
from hpc.rllib.utils.trees import map_tree


class NumpyToTensor(ConnectorV2):
    """Make torch tensors of all arrays, on a device; infos stay as they are."""

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        pin_memory: bool = False,
        device: Any = None,
        **kwargs: Any,
    ) -> None:
        self._pin_memory = pin_memory
        self._device = device
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def on_rows(self, rows: Rows) -> None:
        """Leave them: the module's actor takes arrays."""

    def _tensor(self, leaf: Any) -> Any:
        import torch

        if isinstance(leaf, torch.Tensor):
            made = leaf
        else:
            array = np.ascontiguousarray(leaf)
            if array.dtype == object:
                return leaf
            made = torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array)
        made = made.pin_memory() if self._pin_memory and torch.cuda.is_available() else made
        return made if self._device is None else made.to(self._device)

    def _converted(self, batch: Batch) -> Batch:
        out = {}
        for column, data in batch.items():
            if column == Columns.INFOS:
                out[column] = data
            else:
                out[column] = self._converted(data) if isinstance(data, dict) else map_tree(self._tensor, data)
        return out

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
        """Make tensors of the arrays."""
        return self._converted(batch)
