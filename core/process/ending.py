"""What a process knows of the end of its node."""

from __future__ import annotations

import time

from hpc.core.ids import Address
from hpc.core.wire import NodeTime


class Ending:
    """Kept by a process's connection to its raylet."""

    def __init__(self, left_s: float) -> None:
        self.ends_at: float | None = None  # by time.monotonic()
        self._learn(left_s)

    @property
    def left_s(self) -> float | None:
        """Seconds that the node has left; None where nothing limits it."""
        return None if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())

    def on_time(self, src: Address, msg: NodeTime) -> None:
        """The raylet says how long the node lasts."""
        self._learn(msg.left_s)

    def _learn(self, left_s: float) -> None:
        self.ends_at = None if left_s < 0 else time.monotonic() + left_s
