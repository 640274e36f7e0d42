"""Behaviour cloning."""

from __future__ import annotations

from hpc.rllib.algorithms.bc.bc import BC, BCConfig

__all__ = ["BC", "BCConfig"]
