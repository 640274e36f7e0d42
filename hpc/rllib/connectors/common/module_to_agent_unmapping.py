"""Batches by agent, made of batches by module."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Acts


class ModuleToAgentUnmapping(ConnectorV2):
    """Turn ``{module: {column: {key: records}}}`` into ``{column: {key: records}}``."""

    def on_actions(self, acts: Acts) -> None:
        """Leave them: they are of one agent."""

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
        """Join the records of all modules."""
        out: dict[str, Any] = {}
        for by_column in batch.values():
            for column, by_key in by_column.items():
                out.setdefault(column, {}).update(by_key)
        return out
