"""Proximal policy optimization."""

from __future__ import annotations

from hpc.rllib.algorithms.ppo.ppo import PPO, PPOConfig

__all__ = ["PPO", "PPOConfig"]
