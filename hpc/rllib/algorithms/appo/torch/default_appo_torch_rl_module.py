"""RLlib's path of APPO's default module in torch."""

from __future__ import annotations

from hpc.rllib.core.default_modules.appo import DefaultAPPOTorchRLModule

__all__ = ["DefaultAPPOTorchRLModule"]
