"""RLlib's path of DQN's default module in torch."""

from __future__ import annotations

from hpc.rllib.core.default_modules.dqn import DefaultDQNTorchRLModule

__all__ = ["DefaultDQNTorchRLModule"]
