"""The default module of BC, under RLlib's path."""

from __future__ import annotations

from hpc.rllib.core.default_modules.bc import DefaultBCTorchRLModule

__all__ = ["DefaultBCTorchRLModule"]
