"""The default module of DQN, under RLlib's path."""

from __future__ import annotations

from hpc.rllib.core.default_modules.dqn import DefaultDQNRLModule

__all__ = ["DefaultDQNRLModule"]
