"""IMPALA: runners and learners go on side by side, and V-trace makes up for the age of what is learned from."""

from __future__ import annotations

from hpc.rllib.algorithms.impala.impala import IMPALA, Impala, IMPALAConfig, ImpalaConfig

__all__ = ["IMPALA", "IMPALAConfig", "Impala", "ImpalaConfig"]
