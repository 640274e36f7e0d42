"""Runs that are equal from the first step on."""

from __future__ import annotations

import random

import numpy as np
import torch


def update_global_seed_if_necessary(framework: str | None = None, seed: int | None = None) -> None:
    """Seed the generators of Python, numpy and torch; None: leave them as they are.

    ``config.debugging(seed=..)`` needs it not: an algorithm has generators of its own.
    """
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
