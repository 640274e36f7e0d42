"""The default module of BC: an encoder and a policy head."""

from __future__ import annotations

from typing import Any

from hpc.rllib.core.columns import Columns
from hpc.rllib.core.masks import ACTION_MASK, mask_logits
from hpc.rllib.core.models.base import ENCODER_OUT
from hpc.rllib.core.models.catalog import Catalog
from hpc.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule


class BCCatalog(Catalog):
    """Chooses an encoder and a policy head."""

    def build_pi_head(self, framework: str = "torch") -> Any:
        """The head to the distribution of actions."""
        self.pi_head_config = self.policy_head()
        return self.pi_head_config.build(framework=framework)


class DefaultBCTorchRLModule(TorchRLModule):
    """A policy without a value function."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["catalog_class"] = kwargs.get("catalog_class") or BCCatalog
        super().__init__(*args, **kwargs)

    def setup(self) -> None:
        self._encoder = self.catalog.build_encoder(framework=self.framework)
        self._pi_head = self.catalog.build_pi_head(framework=self.framework)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        encoded = self._encoder(batch)
        logits = mask_logits(self._pi_head(encoded[ENCODER_OUT]), batch.get(ACTION_MASK))
        out = {Columns.ACTION_DIST_INPUTS: logits}
        if Columns.STATE_OUT in encoded:
            out[Columns.STATE_OUT] = encoded[Columns.STATE_OUT]
        return out

    def get_initial_state(self) -> dict[str, Any]:
        return self._encoder.get_initial_state() if hasattr(self._encoder, "get_initial_state") else {}

    def acting_networks(self) -> dict[str, Any]:
        """The networks of acting, for an actor that computes them without torch: lists in the order of their use."""
        return {"policy": [self._encoder, self._pi_head]}
