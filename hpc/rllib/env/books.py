"""Returns and lengths of the running episodes of a runner, by environment."""

from __future__ import annotations

import time

import numpy as np

from hpc.rllib.core import DEFAULT_AGENT_ID, DEFAULT_MODULE_ID
from hpc.rllib.env.fragment import EpisodeRecord


class Books:
    """What running episodes have so far; an end makes a record of it."""

    def __init__(self, width: int) -> None:
        self.returns = np.zeros(width, np.float64)
        self.lengths = np.zeros(width, np.int64)
        #: How many episodes each environment has begun.
        self.number = np.zeros(width, np.int64)
        self._since = np.full(width, time.perf_counter())

    def start_all(self) -> None:
        """Begin an episode everywhere; what ran is forgotten."""
        self.returns[:] = 0
        self.lengths[:] = 0
        self.number += 1
        self._since[:] = time.perf_counter()

    def start(self, where: np.ndarray) -> None:
        """Begin episodes in some environments."""
        self.returns[where] = 0
        self.lengths[where] = 0
        self.number[where] += 1
        self._since[where] = time.perf_counter()

    def step(self, rewards: np.ndarray, valid: np.ndarray) -> None:
        """Add a step."""
        self.returns += rewards
        self.lengths += valid

    def record(self, at: int) -> EpisodeRecord:
        """The record of an episode that ended."""
        total, length = float(self.returns[at]), int(self.lengths[at])
        return EpisodeRecord(
            total,
            length,
            time.perf_counter() - float(self._since[at]),
            agents={DEFAULT_AGENT_ID: total},
            modules={DEFAULT_MODULE_ID: total},
            agent_steps={DEFAULT_AGENT_ID: length},
        )
