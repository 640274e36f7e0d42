"""Limits of a raylet towards processes that do not keep up, on either side of it.

Towards a node whose link is over its window: processes of this node that send to it are not read until half has
drained. They notice when their sockets are full. The raylet itself, the links and the other processes go on. No raylet
ever stops reading its links, so two that slow down each other's processes cannot wait for each other. A node that never
drains is declared dead sooner or later, and is forgotten: that too lets the processes go on. What waits in a raylet is
so at most the window and one frame of each process.

Towards a process of this node that does not read: what waits for it is kept up to a limit. Beyond the limit it loses
its connection, and so its life if it is a worker.

Rejected: answering "slow down" (each sender would need a state for it; the kernel's socket has one).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hpc.core.net.stream import Stream

log = logging.getLogger("hpc.raylet")

#: What may wait for a process of this node that does not read. Beyond, it is disconnected.
MAX_UNSENT_BYTES = 512 << 20
#: Connections that have not said yet who they are. Beyond, the oldest is closed.
MAX_STRANGERS = 256


class Pressure:
    """Which processes are not read at the moment, because of which nodes.

    ``set_reading(number, on)`` switches the reading of a process's stream.
    """

    def __init__(self, set_reading: Callable[[int, bool], None]) -> None:
        self._set_reading = set_reading
        self.full: set[int] = set()
        self.paused: dict[int, int] = {}  # process → the node that it waits for

    def on_limit(self, node: int, over: bool) -> None:
        """A link says that it is over its window, or has drained."""
        if over:
            log.warning("node %d does not keep up: the processes that send to it are slowed down", node)
            self.full.add(node)
        else:
            self.forget(node)

    def sent(self, number: int, node: int) -> None:
        """A process has sent something to a node."""
        if node in self.full and number not in self.paused:
            self.paused[number] = node
            self._set_reading(number, False)

    def forget(self, node: int) -> None:
        """The node has drained, or is gone."""
        if node in self.full:
            log.info("the processes that send to node %d are read again", node)
        self.full.discard(node)
        for number in [p for p, waits_for in self.paused.items() if waits_for == node]:
            del self.paused[number]
            self._set_reading(number, True)

    def gone(self, number: int) -> None:
        """A process has ended."""
        self.paused.pop(number, None)


class Strangers:
    """Connections of which it is not known yet whose they are: at most a certain number of them."""

    def __init__(self, close: Callable[[Stream], None]) -> None:
        self._close = close
        self._streams: dict[int, Stream] = {}

    def add(self, stream: Stream) -> None:
        """A new one; the oldest has to go if there are too many."""
        self._streams[stream.fd] = stream
        if len(self._streams) > MAX_STRANGERS:
            oldest = next(iter(self._streams.values()))
            log.warning("more than %d connections do not say whose they are: one is closed", MAX_STRANGERS)
            self.remove(oldest)
            self._close(oldest)

    def remove(self, stream: Stream) -> None:
        """It is known now, or closed."""
        self._streams.pop(stream.fd, None)
