"""The default module of PPO, under RLlib's path."""

from __future__ import annotations

from hpc.rllib.core.default_modules.ppo import DefaultPPORLModule

__all__ = ["DefaultPPORLModule"]
