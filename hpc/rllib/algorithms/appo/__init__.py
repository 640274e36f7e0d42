"""APPO: IMPALA with PPO's clipped loss, and a target policy."""

from __future__ import annotations

from hpc.rllib.algorithms.appo.appo import APPO, APPOConfig

__all__ = ["APPO", "APPOConfig"]
