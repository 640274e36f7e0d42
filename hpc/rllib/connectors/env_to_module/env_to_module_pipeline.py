"""The connectors between environment and module."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2


class EnvToModulePipeline(ConnectorPipelineV2):
    """Make the module's input of what the environments gave."""

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any] | None = None,
        episodes: list[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        metrics: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run all connectors, from an empty batch where none is given."""
        return super().__call__(
            rl_module=rl_module,
            batch={} if batch is None else batch,
            episodes=episodes,
            explore=explore,
            shared_data=shared_data,
            metrics=metrics,
            **kwargs,
        )
