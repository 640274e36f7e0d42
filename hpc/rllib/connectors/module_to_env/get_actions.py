"""Actions drawn from the distributions that a module gave."""

from __future__ import annotations

from typing import Any

from hpc.rllib.connectors.common.modules import is_multi
from hpc.rllib.connectors.connector_v2 import Batch, ConnectorV2
from hpc.rllib.connectors.rows import Acts
from hpc.rllib.core.columns import Columns


class GetActions(ConnectorV2):
    """Draw actions from the distribution, or take its mode without exploration; actions that are there stay."""

    def on_actions(self, acts: Acts) -> None:
        """Leave them: the module's actor drew them."""

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
        """Add actions and their log probabilities."""
        if is_multi(rl_module):
            for module_id, part in batch.items():
                self._draw(part, rl_module[module_id], explore)
        else:
            self._draw(batch, rl_module, explore)
        return batch

    @staticmethod
    def _draw(batch: Batch, module: Any, explore: bool | None) -> None:
        if Columns.ACTIONS in batch or Columns.ACTION_DIST_INPUTS not in batch:
            return
        kind = module.get_exploration_action_dist_cls() if explore else module.get_inference_action_dist_cls()
        distribution = kind.from_logits(batch[Columns.ACTION_DIST_INPUTS])
        if not explore:
            distribution = distribution.to_deterministic()
        batch[Columns.ACTIONS] = distribution.sample()
        if Columns.ACTION_LOGP not in batch:
            batch[Columns.ACTION_LOGP] = distribution.logp(batch[Columns.ACTIONS])
