"""Conservative Q learning."""

from __future__ import annotations

from hpc.rllib.algorithms.cql.cql import CQL, CQLConfig

__all__ = ["CQL", "CQLConfig"]
