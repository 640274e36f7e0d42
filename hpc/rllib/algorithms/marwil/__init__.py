"""Monotonic advantage re-weighted imitation learning."""

from __future__ import annotations

from hpc.rllib.algorithms.marwil.marwil import MARWIL, MARWILConfig

__all__ = ["MARWIL", "MARWILConfig"]
