"""RLlib's path of CQL's default module in torch."""

from __future__ import annotations

from hpc.rllib.core.default_modules.cql import DefaultCQLTorchRLModule

__all__ = ["DefaultCQLTorchRLModule"]
