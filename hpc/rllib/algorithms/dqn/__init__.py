"""Deep Q networks with the parts of Rainbow."""

from __future__ import annotations

from hpc.rllib.algorithms.dqn.dqn import DQN, DQNConfig

__all__ = ["DQN", "DQNConfig"]
