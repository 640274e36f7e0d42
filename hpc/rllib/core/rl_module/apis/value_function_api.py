"""Modules with a value function."""

from __future__ import annotations

import abc
from typing import Any


class ValueFunctionAPI(abc.ABC):
    """A module that estimates the value of observations."""

    @abc.abstractmethod
    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Any:
        """Values of shape [B] or [B, T]; embeddings: what the encoder made of the batch, to save its pass."""
