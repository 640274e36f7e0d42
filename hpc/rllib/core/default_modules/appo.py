"""The default module of APPO: PPO's, with a slowly moving copy of the policy."""

from __future__ import annotations

from typing import Any

from hpc.rllib.core.default_modules.ppo import DefaultPPORLModule, DefaultPPOTorchRLModule
from hpc.rllib.core.learner.utils import make_target_network
from hpc.rllib.core.masks import ACTION_MASK, mask_logits
from hpc.rllib.core.models.base import ACTOR, ENCODER_OUT
from hpc.rllib.core.rl_module.apis.target_network_api import TARGET_NETWORK_ACTION_DIST_INPUTS, TargetNetworkAPI


class DefaultAPPORLModule(DefaultPPORLModule, TargetNetworkAPI):
    """PPO's module with a target policy."""

    def make_target_networks(self) -> None:
        self._old_encoder = make_target_network(self.encoder)
        self._old_pi = make_target_network(self.pi)

    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        return [(self.encoder, self._old_encoder), (self.pi, self._old_pi)]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        logits = self._old_pi(self._old_encoder(batch)[ENCODER_OUT][ACTOR])
        return {TARGET_NETWORK_ACTION_DIST_INPUTS: mask_logits(logits, batch.get(ACTION_MASK))}

    def get_non_inference_attributes(self) -> list[str]:
        return [*super().get_non_inference_attributes(), "_old_encoder", "_old_pi"]


class DefaultAPPOTorchRLModule(DefaultPPOTorchRLModule, DefaultAPPORLModule):
    """APPO's module in torch."""
