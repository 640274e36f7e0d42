"""How much an execution may hold, in bytes of the object store and of heap, on each node and in all.

Held: blocks that exist, from the moment they are told until their last user has let them go. Reserved: room for what
running work makes ahead. Both together stay below the limit, but for the exceptions that the machine makes so that
something always runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class NodeRoom(NamedTuple):
    """What an execution may use of a node: CPUs, GPUs, bytes of its store and of heap."""

    cpus: float
    gpus: float
    store: int
    heap: int


@dataclass
class NodeUse:
    """What it uses of a node."""

    room: NodeRoom
    held: int = 0
    reserved: int = 0
    heap: int = 0

    @property
    def free(self) -> int:
        """Bytes of the store that nobody holds or has reserved."""
        return self.room.store - self.held - self.reserved


@dataclass
class Budget:
    """The use of all nodes. ``limit`` and ``heap_limit`` are for all of them together."""

    limit: int = 0
    heap_limit: int = 0
    held: int = 0
    reserved: int = 0
    heap: int = 0
    #: The most that was held at a time.
    peak: int = 0
    cpus: float = 0.0
    gpus: float = 0.0
    nodes: dict[str, NodeUse] = field(default_factory=dict)

    def set_nodes(
        self,
        rooms: dict[str, NodeRoom],
        cpu_cap: float,
        gpu_cap: float,
        store_cap: float,
        heap_cap: float = float("inf"),
    ) -> None:
        """The nodes that there are now; what was held on others is gone. The caps are for all of them together."""
        before = self.nodes
        self.nodes = {name: NodeUse(room) for name, room in rooms.items()}
        for name, use in self.nodes.items():
            if name in before:
                use.held, use.reserved, use.heap = before[name].held, before[name].reserved, before[name].heap
        self.cpus = min(cpu_cap, sum(room.cpus for room in rooms.values()))
        self.gpus = min(gpu_cap, sum(room.gpus for room in rooms.values()))
        self.limit = max(0, int(min(store_cap, sum(room.store for room in rooms.values()))))
        self.heap_limit = max(0, int(min(heap_cap, sum(room.heap for room in rooms.values()))))

    @property
    def free(self) -> int:
        """Bytes of the store that nobody holds or has reserved."""
        return self.limit - self.held - self.reserved

    def fits(self, need: int, heap: int) -> bool:
        """Whether so much more has room in all."""
        return self.free >= need and (self.heap + heap <= self.heap_limit or not self.heap)

    def best_node(self, need: int, heap: int, near: str) -> str | None:
        """The node for new work: where its input is, if that has room; else the one with the most. None: none has."""
        if len(self.nodes) == 1:
            return next(iter(self.nodes))
        use = self.nodes.get(near)
        if use is not None and use.free >= need and use.heap + heap <= use.room.heap:
            return near
        fit = [n for n, use in self.nodes.items() if use.free >= need and use.heap + heap <= use.room.heap]
        return max(fit, key=lambda n: self.nodes[n].free, default=None)

    def hold(self, node: str, nbytes: int) -> None:
        """A block exists, or (with a negative number) is let go."""
        self.held += nbytes
        self.peak = max(self.peak, self.held)
        use = self.nodes.get(node)
        if use is not None:
            use.held += nbytes

    def reserve(self, node: str, nbytes: int, heap: int) -> None:
        """Work begins, or (with negative numbers) needs less."""
        self.reserved += nbytes
        self.heap += heap
        use = self.nodes.get(node)
        if use is not None:
            use.reserved += nbytes
            use.heap += heap
