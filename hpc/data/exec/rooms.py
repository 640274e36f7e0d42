"""What a run may use of the session's nodes."""

from __future__ import annotations

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
