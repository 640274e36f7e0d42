"""RLlib's path of BC's default module in torch."""

from __future__ import annotations

from hpc.rllib.core.default_modules.bc import DefaultBCTorchRLModule

__all__ = ["DefaultBCTorchRLModule"]
