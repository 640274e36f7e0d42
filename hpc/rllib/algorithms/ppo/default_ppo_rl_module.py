"""RLlib's path of PPO's default module."""

from __future__ import annotations

from hpc.rllib.core.default_modules.ppo import DefaultPPORLModule

__all__ = ["DefaultPPORLModule"]
