"""The default module of CQL, under RLlib's path."""

from __future__ import annotations

from hpc.rllib.core.default_modules.cql import DefaultCQLTorchRLModule

__all__ = ["DefaultCQLTorchRLModule"]
