"""RLlib's path of SAC's default module in torch."""

from __future__ import annotations

from hpc.rllib.core.default_modules.sac import DefaultSACTorchRLModule

__all__ = ["DefaultSACTorchRLModule"]
