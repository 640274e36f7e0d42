"""What a worker has run lately: a bounded ring of events, told to whoever asks. One append per task, nothing is sent.

HPC_TASK_EVENTS=0 switches it off.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

#: Executions that a worker remembers.
MAX_EVENTS = 10_000
SWITCH = "HPC_TASK_EVENTS"

#: (task, attempt, name, start on the monotonic clock, running time in µs, kind of its first result)
Event = tuple[bytes, int, str, float, int, int]


def new_ring() -> deque[Event]:
    """An empty ring; one that forgets everything where it is switched off."""
    return deque(maxlen=0 if os.environ.get(SWITCH) == "0" else MAX_EVENTS)


def rows(ring: deque[Event], limit: int) -> list[dict[str, Any]]:
    """The newest events as rows, with times on this node's wall clock."""
    offset = time.time() - time.monotonic()
    return [
        {
            "task_id": task.hex(),
            "attempt_number": attempt,
            "name": name,
            "start_time_ms": (start + offset) * 1e3,
            "end_time_ms": (start + offset) * 1e3 + run_us / 1e3,
            "state": "FINISHED" if kind < 2 else "FAILED",
        }
        for task, attempt, name, start, run_us, kind in list(ring)[-limit:]
    ]
