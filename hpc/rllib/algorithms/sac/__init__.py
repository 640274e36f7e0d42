"""Soft actor-critic."""

from __future__ import annotations

from hpc.rllib.algorithms.sac.sac import SAC, SACConfig

__all__ = ["SAC", "SACConfig"]
