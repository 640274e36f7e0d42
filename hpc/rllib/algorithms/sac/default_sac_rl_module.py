"""The default module of SAC, under RLlib's path."""

from __future__ import annotations

from hpc.rllib.core.default_modules.sac import DefaultSACRLModule

__all__ = ["DefaultSACRLModule"]
