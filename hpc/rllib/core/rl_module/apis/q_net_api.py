"""Modules with a Q-function."""

from __future__ import annotations

import abc
from typing import Any


class QNetAPI(abc.ABC):
    """A module that computes Q-values."""

    @abc.abstractmethod
    def compute_q_values(self, batch: dict[str, Any]) -> Any:
        """Q-values of the batch's observations, or of its observations and actions."""

    def compute_advantage_distribution(self, batch: Any) -> dict[str, Any]:
        """The distribution of advantages over atoms; modules without one return their Q-values."""
        return self.compute_q_values(batch)
