"""The default catalog of DQN, under RLlib's path."""

from __future__ import annotations

from hpc.rllib.core.default_modules.dqn import DQNCatalog

__all__ = ["DQNCatalog"]
