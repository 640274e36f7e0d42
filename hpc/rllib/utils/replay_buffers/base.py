"""What every replay buffer can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class ReplayBufferInterface(ABC):
    """The methods that an algorithm needs of a buffer of the user's own."""

    @abstractmethod
    def __len__(self) -> int:
        """How many steps are kept."""

    @abstractmethod
    def add(self, episodes: Any, **kwargs: Any) -> None:
        """Keep episodes or samples."""

    @abstractmethod
    def sample(self, num_items: int | None = None, **kwargs: Any) -> Any:
        """Draw items."""

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """Everything that `set_state` needs."""

    @abstractmethod
    def set_state(self, state: dict[str, Any]) -> None:
        """Take the state of an equal buffer."""
