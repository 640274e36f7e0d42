"""One actor that replicas of a deployment share, as the control plane knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HelperState = Literal["starting", "running"]


@dataclass(slots=True)
class Helper:
    """Such an actor. began: when it was begun, in seconds since 1970. next_check: when it is asked whether it takes
    calls. misses: how often in a row it has not answered."""

    state: HelperState = "starting"
    began: float = 0.0
    next_check: float = 0.0
    is_asked: bool = False
    misses: int = 0

    @property
    def runs(self) -> bool:
        """Whether its constructor has ended."""
        return self.state == "running"
