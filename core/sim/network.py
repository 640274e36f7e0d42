"""The simulator's wires: streams inside a node, lossy packets with real link sessions between nodes.

A stream delivers in order after random delays. Between nodes run the same `LinkSession` objects as in production, over
a network that drops, duplicates and reorders packets. What comes out must be exactly once and in order, or the machines
above will show it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Hashable

from hpc.core.net.session import LinkSession, MalformedPacket, parse_header


class Clock:
    """Virtual time and what will happen in it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._count = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a time (not before now)."""
        heapq.heappush(self._events, (max(when, self.now), next(self._count), action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self.at(self.now + delay_s, action)

    def pause(self, length_s: float) -> None:
        """Nothing happens for a while, as in a job that is suspended: what was to happen does so later."""
        self.now += length_s
        self._events = [(when + length_s, number, action) for when, number, action in self._events]

    def step(self) -> bool:
        """Let the next thing happen; False when there is none."""
        if not self._events:
            return False
        self.now, _, action = heapq.heappop(self._events)
        action()
        return True


class Streams:
    """First-in-first-out channels with random delays."""

    def __init__(self, clock: Clock, rng: random.Random, max_delay_s: float = 0.002) -> None:
        self._clock = clock
        self._rng = rng
        self._max_delay_s = max_delay_s
        self._last: dict[Hashable, float] = {}

    def pause(self, length_s: float) -> None:
        """What is on its way arrives so much later."""
        self._last = {channel: when + length_s for channel, when in self._last.items()}

    def send(self, channel: Hashable, deliver: Callable[[], None]) -> None:
        """Deliver after everything that was sent on the channel before."""
        when = max(self._last.get(channel, 0.0), self._clock.now + self._rng.random() * self._max_delay_s)
        self._last[channel] = when
        self._clock.at(when, deliver)


class LossyLink:
    """A pair of link sessions and the bad network between them."""

    def __init__(
        self, clock: Clock, rng: random.Random, ends: tuple[int, int], deliver: Callable[[int, int, bytes], None]
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._deliver = deliver
        self.loss = 0.0
        self.cut = False
        #: whether a node's key is known to the other: as in production nothing is heard of it before
        self.admits: Callable[[int, int], bool] = lambda receiver, sender: True
        a, b = ends
        self.sessions = {node: LinkSession(node, rng.getrandbits(63) | 1 << 62) for node in ends}
        self._peer = {a: b, b: a}
        #: ends whose process is not there at the moment
        self.down: set[int] = set()
        #: called with (node, its peer) when the node has met another incarnation of its peer
        self.on_restart: Callable[[int, int], None] = lambda node, peer: None
        self._ticking = False
        for node in ends:
            self._put(node, self.sessions[node].open(0.0))

    def send(self, src: int, body: bytes) -> None:
        """A body from one end to the other."""
        self.sessions[src].queue(body)
        self._pull(src)

    def restart(self, node: int) -> None:
        """The process at one end is another one now, which knows nothing of what was. The other end connects anew, and
        says HELLO until it is answered, as its shell does."""
        self.down.discard(node)
        self.sessions[node] = LinkSession(node, self._rng.getrandbits(63) | 1 << 62)
        for end, session in self.sessions.items():
            self._put(end, session.open(self._clock.now))
        self._tick_later()

    def _pull(self, node: int) -> None:
        session = self.sessions[node]
        while session.can_pull:
            packet = session.pull(self._clock.now)
            if packet is None:
                break
            self._put(node, packet)
        self._tick_later()

    def _put(self, node: int, packet: bytes) -> None:
        if self.cut or node in self.down:
            return
        copies = 0 if self._rng.random() < self.loss else 2 if self._rng.random() < self.loss else 1
        for _ in range(copies):
            self._clock.after(self._rng.random() * 0.004, lambda: self._arrive(self._peer[node], packet))

    def _arrive(self, node: int, packet: bytes) -> None:
        if self.cut or node in self.down or not self.admits(node, self._peer[node]):
            return
        session = self.sessions[node]
        before = session.peer
        try:
            head = parse_header(packet)
        except MalformedPacket:
            return
        bodies = [bytes(b) for b in session.receive(head, packet, self._clock.now)]
        if before and session.peer != before:
            self.on_restart(node, self._peer[node])
        for body in bodies:
            self._deliver(self._peer[node], node, body)
        for reply in list(session.replies):
            self._put(node, reply)
        session.replies.clear()
        if session.ack_due:
            self._put(node, session.ack())
        self._pull(node)

    def _tick_later(self) -> None:
        if not self._ticking and not self.cut:
            self._ticking = True
            self._clock.after(0.1, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        for node, session in self.sessions.items():
            if node in self.down:
                continue
            if session.peer == 0 or session.hello_pending:
                self._put(node, session.open(self._clock.now))
                continue
            packet = session.tick(self._clock.now)
            if packet is not None:
                self._put(node, packet)
        greeting = any(not s.peer or s.hello_pending for node, s in self.sessions.items() if node not in self.down)
        if greeting or any(session.pending_bodies for session in self.sessions.values()):
            self._tick_later()
