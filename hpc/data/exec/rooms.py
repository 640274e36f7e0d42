"""What a run may use of the session's nodes, and how runs of one process share it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from hpc import spi
from hpc.data.exec.budget import NodeRoom

#: Of the memory that tasks may use on a node, runs plan with this part.
HEAP_SHARE = 0.8


def rooms_of_session(store_share: float) -> dict[str, NodeRoom]:
    """The nodes, by their number, with this part of their stores."""
    rooms = {}
    for room in spi.rooms():
        if room.is_open:
            total = room.total
            store = int(total.get("object_store_memory", 0) * store_share)
            heap = int(total.get("memory", 0) * HEAP_SHARE)
            rooms[str(room.node)] = NodeRoom(total.get("CPU", 0.0), total.get("GPU", 0.0), store, heap)
    return rooms


class Runs:
    """The runs of this process that are not over. Each may use an equal part of what one alone may use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: weakref.WeakSet[Any] = weakref.WeakSet()

    def begin(self, run: Any) -> Callable[[], float]:
        """A run begins. What tells its part, while it has not ended."""
        with self._lock:
            self._live.add(run)
        return self._share

    def _share(self) -> float:
        with self._lock:
            return 1.0 / max(1, sum(not run.ended for run in self._live))


RUNS = Runs()
