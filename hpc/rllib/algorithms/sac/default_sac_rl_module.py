"""RLlib's path of SAC's default module."""

from __future__ import annotations

from hpc.rllib.core.default_modules.sac import DefaultSACRLModule

__all__ = ["DefaultSACRLModule"]
