"""Arrays in the batch, made of tensors."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.common.modules import to_numpy
from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Acts


class TensorToNumpy(ConnectorV2):
    """Make arrays of all tensors."""

    def on_actions(self, acts: Acts) -> None:
        """Leave them: the module's actor gives arrays."""

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
        """Make arrays of the tensors."""
        return to_numpy(batch)
