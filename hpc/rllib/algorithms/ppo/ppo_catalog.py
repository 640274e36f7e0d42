"""RLlib's path of PPO's catalog."""

from __future__ import annotations

from hpc.rllib.core.default_modules.ppo import PPOCatalog

__all__ = ["PPOCatalog"]
