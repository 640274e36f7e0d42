"""The default catalog of PPO, under RLlib's path."""

from __future__ import annotations

from hpc.rllib.core.default_modules.ppo import PPOCatalog

__all__ = ["PPOCatalog"]
