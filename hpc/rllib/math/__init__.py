"""The mathematics of reinforcement learning as pure functions: returns, V-trace, sum trees and losses."""

from __future__ import annotations

from hpc.rllib.math.returns import Advantages, discounted_returns, explained_variance, gae, n_step_returns, standardize
from hpc.rllib.math.sumtree import SumTree

__all__ = [
    "Advantages",
    "SumTree",
    "discounted_returns",
    "explained_variance",
    "gae",
    "n_step_returns",
    "standardize",
]
