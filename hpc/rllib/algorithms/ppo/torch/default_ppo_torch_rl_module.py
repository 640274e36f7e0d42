"""RLlib's path of PPO's default module in torch."""

from __future__ import annotations

from hpc.rllib.core.default_modules.ppo import DefaultPPOTorchRLModule

__all__ = ["DefaultPPOTorchRLModule"]
