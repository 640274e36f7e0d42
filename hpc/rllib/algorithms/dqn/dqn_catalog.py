"""RLlib's path of DQN's catalog."""

from __future__ import annotations

from hpc.rllib.core.default_modules.dqn import DQNCatalog

__all__ = ["DQNCatalog"]
