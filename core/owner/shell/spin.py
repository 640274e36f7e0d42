"""Looking again for a while before sleeping: waking a core that sleeps is the dearest step of a synchronous call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from hpc.core.node.settings import setting

Events = list[tuple[int, int]]

#: A yield that took longer gave the core to somebody else; then nobody spins for this time, and each time that the next
#: try begins like this for twice as long as before: who wants the core may be a thread of a moment, or a hog.
SLOW_YIELD_S = 200e-6
BUSY_S = 0.001
MAX_BUSY_S = 0.032


def spin_setting() -> float:
    """For how long to spin, in seconds: HPC_SPIN_US of the environment. Raises ValueError if that makes no sense."""
    return setting("spin_us", {}, os.environ) / 1e6


class Spinner:
    """Spins for at most ``spin_s`` (by default what the environment says)."""

    def __init__(self, spin_s: float | None = None) -> None:
        self.spin_s = spin_setting() if spin_s is None else spin_s
        self._not_before = 0.0
        self._busy_s = BUSY_S

    def spin(self, poll: Callable[[float], Events]) -> Events:
        """Poll for a while, giving up the core each time. Where others want the core a yield takes long, and so would
        each look: nothing is gained then for a while."""
        now = time.perf_counter()
        if now < self._not_before:
            return []
        deadline = now + self.spin_s
        while now < deadline:
            os.sched_yield()
            events = poll(0)
            before, now = now, time.perf_counter()
            if now - before > SLOW_YIELD_S:
                self._not_before = now + self._busy_s
                self._busy_s = min(2 * self._busy_s, MAX_BUSY_S)
                return events
            self._busy_s = BUSY_S
            if events:
                return events
        return []
