"""What a run may use of the session's nodes."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from hpc import spi
from hpc.data.exec.budget import NodeRoom
from hpc.exceptions import HpcError
from hpc.util import state

#: Of the memory that tasks may use on a node, runs plan with this part.
HEAP_SHARE = 0.8
#: The nodes are asked this often where a node has less than this part of its memory left, and that often elsewhere.
TIGHT_S, TIGHT_SHARE, LOOSE_S = 0.5, 0.3, 5.0
#: Where a node has less than this for each CPU, it is asked before anything begins.
SCARCE_BYTES = 256 << 20
#: What is left swings with the tasks that run: the least of so many answers counts.
ANSWERS = 8


def first_rooms(store_share: float, memory: Memory) -> dict[str, NodeRoom]:
    """The same for a run that begins: where memory is scarce, the nodes are asked first."""
    rooms = rooms_of_session(store_share)
    if any(room.heap < SCARCE_BYTES * max(1.0, room.cpus) for room in rooms.values()):
        with contextlib.suppress(HpcError):
            memory.note(spi.memory_use(), {})
        return rooms_of_session(store_share, memory)
    return rooms


def rooms_of_session(store_share: float, memory: Memory | None = None) -> dict[str, NodeRoom]:
    """The nodes, by their number, with this part of their stores, and the heap that they have left."""
    rooms = {}
    for room in spi.rooms():
        if room.is_open:
            total, name = room.total, str(room.node)
            store = int(total.get("object_store_memory", 0) * store_share)
            heap = int(total.get("memory", 0) * HEAP_SHARE)
            if memory is not None:
                heap = min(heap, memory.heap(name, heap))
            rooms[name] = NodeRoom(total.get("CPU", 0.0), total.get("GPU", 0.0), store, heap)
    return rooms


def workers_start() -> bool:
    """Whether some node is starting a worker. CPUs are taken for it before anybody knows of it."""
    with contextlib.suppress(HpcError, OSError, RuntimeError):  # the session may be over
        return bool(state.list_workers([("state", "=", "STARTING")], limit=1))
    return False


def environment_is_made() -> bool:
    """Whether a worker for this process makes its runtime environment. That may take minutes, and a task without a CPU
    would wait for the same environment."""
    with contextlib.suppress(HpcError, OSError, RuntimeError):  # the session may be over
        return spi.awaits_environment()
    return False


class Moved(NamedTuple):
    """Bytes that object stores have spilled, restored from disk, and received from other nodes."""

    spilled: int = 0
    restored: int = 0
    received: int = 0


class Memory:
    """What the nodes' memory has left for tasks, as a thread asks now and then. Elsewhere nobody waits for it.

    A node's memory is that of its cgroup. What processes use already, those of other programs too, is not there for
    tasks, and neither is what the object store may still take. What the run's own tasks have, they may have."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking = False
        self._answers: list[spi.MemoryUse] = []
        self._left: dict[str, deque[int]] = {}
        self._next = 0.0
        #: What each node's store had moved when it answered first, and last.
        self._first: dict[int, Moved] = {}
        self._last: dict[int, Moved] = {}
        self._ended: threading.Thread | None = None

    def look(self, now: float, reserved: Mapping[str, int]) -> bool:
        """Ask, if it is time. Whether there is an answer since the last look; ``reserved``: heap of the run's tasks."""
        with self._lock:
            answers, self._answers = self._answers, []
            if now >= self._next and not self._asking:
                self._asking, self._next = True, now + LOOSE_S
                threading.Thread(target=self._ask, name="hpc-data-memory", daemon=True).start()
        if answers:
            self.note(answers, reserved)
            tight = any(use.limit_bytes * TIGHT_SHARE > use.left_bytes * use.nodes for use in answers)
            self._next = now + (TIGHT_S if tight else LOOSE_S)
        return bool(answers)

    def note(self, answers: list[spi.MemoryUse], reserved: Mapping[str, int]) -> None:
        """The nodes have answered."""
        for use in answers:
            name = str(use.node)
            self._move(use)
            spare = int(use.left_bytes - (1 - HEAP_SHARE) / 2 * use.limit_bytes / use.nodes) + reserved.get(name, 0)
            self._left.setdefault(name, deque(maxlen=ANSWERS)).append(max(0, spare))

    def _move(self, use: spi.MemoryUse) -> None:
        self._last[use.node] = Moved(use.spilled_bytes, use.restored_bytes, use.received_bytes)
        self._first.setdefault(use.node, self._last[use.node])

    def end(self) -> None:
        """The run is over: the nodes that have answered are asked once more."""
        if self._first:
            self._ended = threading.Thread(target=self._ask_last, name="hpc-data-memory", daemon=True)
            self._ended.start()

    def _ask_last(self) -> None:
        spi.begin_none()
        with contextlib.suppress(HpcError, OSError, RuntimeError):
            for use in spi.memory_use():
                if use.node in self._first:
                    self._move(use)

    def moved(self, wait_s: float = 1.0) -> Moved:
        """What the stores of the nodes have moved while the run went on, whoever's it was."""
        if self._ended is not None:
            self._ended.join(wait_s)
        pairs = [(last, self._first[node]) for node, last in list(self._last.items())]
        return Moved(*(sum(max(0, last[at] - first[at]) for last, first in pairs) for at in range(3)))

    def heap(self, node: str, most: int) -> int:
        """The heap that tasks of the run may have on a node; ``most`` where it has not answered yet."""
        return min(self._left.get(node, (most,)))

    def _ask(self) -> None:
        spi.begin_none()
        try:
            with contextlib.suppress(HpcError, OSError, RuntimeError):  # the session may be over
                found = spi.memory_use()
                with self._lock:
                    self._answers = found
        finally:
            self._asking = False
