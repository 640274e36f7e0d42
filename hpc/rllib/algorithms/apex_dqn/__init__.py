"""APEX: DQN whose replay is spread over shards, with many runners that explore differently."""

from __future__ import annotations

from hpc.rllib.algorithms.apex_dqn.apex_dqn import APEX, ApexDQN, ApexDQNConfig

__all__ = ["APEX", "ApexDQN", "ApexDQNConfig"]
