"""Messages between two processes of a session, in order, with back-pressure; the end of the other is an event. Pure.

A process listens under a name, another opens a channel to it: from then on both may send. Messages go the way that all
frames go, directly or by the raylets, and the way may change while they are on it. So they are numbered, and put in
order here. What a channel's reader has taken is told as a sum, now and then. A sender stops when `WINDOW_BYTES` more
are on their way or wait to be read. So a reader that is slow holds up its sender, and nobody's memory.

A channel ends when one side closes it: what was sent before is still read. It ends as well when the process at the
other end does, or its node. What that process had sent may be lost then, and the channel says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hpc.core.ids import Address
from hpc.core.owner.state import OwnerState
from hpc.core.owner.tables import Waiter
from hpc.core.wire import ChannelData, ChannelEnd, ChannelOpen, ChannelTaken

#: A sender waits while more than this is on its way to the reader, or waits there.
WINDOW_BYTES = 4 << 20
#: What a message counts beside its bytes, so that many empty ones have an end too.
MESSAGE_BYTES = 64
#: Channels that were opened to names under which nobody listens yet, at most.
MAX_EARLY = 1000


class ChannelHalf:
    """One process's half of a channel."""

    def __init__(self, peer: Address, number: int, opener: bool, name: str) -> None:
        self.peer, self.name = peer, name
        #: Given by the process that opened it; ``opener`` says whether this is that process.
        self.number, self.opener = number, opener
        #: Threads that wait for anything to happen to it.
        self.waiters: list[Waiter] = []
        #: The side that listens has taken it.
        self.accepted = False
        #: Nothing can be sent any more, and why. ``lost``: the other process has ended.
        self.ended, self.lost, self.why = False, False, ""
        #: Messages that have come and were not taken, and those that came before their turn.
        self.queue: deque[bytes] = deque()
        self.early: dict[int, bytes] = {}
        self.next = 0
        #: How many messages the other side has sent, once it has said that there are no more.
        self.last: int | None = None
        #: What was sent and taken, as `_cost` counts it; what the other side has taken, and what it was told of us.
        self.sent = self.sent_bytes = self.peer_taken = 0
        self.taken = self.told = 0

    @property
    def has_room(self) -> bool:
        """Whether a message may be sent now."""
        return self.sent_bytes - self.peer_taken < WINDOW_BYTES

    @property
    def is_drained(self) -> bool:
        """Whether nothing more will be read."""
        return self.ended and not self.queue and (self.lost or self.last is None or self.next >= self.last)


class Channels:
    """The channels of one process, and the names under which it listens."""

    def __init__(self, state: OwnerState) -> None:
        self.state = state
        self.halves: dict[tuple[Address, int, bool], ChannelHalf] = {}
        #: By names: channels that were opened to them and not accepted yet, and threads that wait for one.
        self.boxes: dict[str, deque[ChannelHalf]] = {}
        self.waiting: dict[str, list[Waiter]] = {}
        #: Channels to names under which nobody listens yet.
        self.early: dict[str, deque[ChannelHalf]] = {}
        self._number = 0

    # -------------------------------------------------------------- making channels

    def open(self, peer: Address, name: str) -> ChannelHalf:
        """Open a channel to a process, which is accepted when that listens under the name."""
        self._number += 1
        half = ChannelHalf(peer, self._number, True, name)
        why = self.state.gone_nodes.get(peer.node)
        if peer in self.state.gone or why is not None:
            self._lose(half, why or _has_ended(peer))
            return half
        self.halves[peer, half.number, True] = half
        self.state.send(peer, ChannelOpen(half.number, name))
        return half

    def listen(self, name: str) -> bool:
        """Listen under a name; False if this process does already."""
        if name in self.boxes:
            return False
        self.boxes[name] = self.early.pop(name, deque())
        self.waiting[name] = []
        return True

    def accept(self, name: str) -> ChannelHalf | None:
        """The next channel that was opened to this name, if there is one."""
        box = self.boxes[name]
        if not box:
            return None
        half = box.popleft()
        half.accepted = True
        self.state.send(half.peer, ChannelTaken(half.number, False, 0))
        return half

    def listen_no_more(self, name: str) -> None:
        """The name is free; channels that were not accepted are refused."""
        for half in self.boxes.pop(name, ()):
            self._refuse(half, f"process {self.state.addr} does not listen under the name {name!r} any more")
        _wake(self.state, self.waiting.pop(name, []))

    def on_open(self, src: Address, msg: ChannelOpen) -> None:
        """Another process opens a channel to one of our names, or to one that may come."""
        half = self.halves[src, msg.number, False] = ChannelHalf(src, msg.number, False, msg.name)
        if msg.name in self.boxes:
            self.boxes[msg.name].append(half)
            _wake(self.state, self.waiting[msg.name])
        elif sum(map(len, self.early.values())) >= MAX_EARLY:
            self._refuse(half, f"{MAX_EARLY} channels to process {self.state.addr} wait for it to listen already")
        else:
            self.early.setdefault(msg.name, deque()).append(half)

    def _refuse(self, half: ChannelHalf, why: str) -> None:
        del self.halves[half.peer, half.number, False]
        self.state.send(half.peer, ChannelEnd(half.number, False, 0, why))

    def _withdraw(self, half: ChannelHalf) -> None:
        """A channel that nobody has accepted here has ended."""
        self.halves.pop((half.peer, half.number, False), None)
        for table in (self.boxes, self.early):
            if half in table.get(half.name, ()):
                table[half.name].remove(half)
        if not self.early.get(half.name, True):
            del self.early[half.name]

    # -------------------------------------------------------------- messages

    def send(self, half: ChannelHalf, data: bytes) -> None:
        """Send a message: there is room, and the channel has not ended."""
        self.state.send(half.peer, ChannelData(half.number, half.opener, half.sent, data))
        half.sent += 1
        half.sent_bytes += _cost(data)

    def take(self, half: ChannelHalf) -> bytes | None:
        """The next message, if it has come."""
        if not half.queue:
            return None
        data = half.queue.popleft()
        half.taken += _cost(data)
        if half.taken - half.told >= WINDOW_BYTES // 4 and not half.ended:
            half.told = half.taken
            self.state.send(half.peer, ChannelTaken(half.number, half.opener, half.taken))
        return data

    def on_data(self, src: Address, msg: ChannelData) -> None:
        """A message has come, perhaps before one that was sent earlier another way."""
        half = self.halves.get((src, msg.number, not msg.opener))
        if half is None:
            return
        if msg.seq >= half.next:
            half.early[msg.seq] = msg.data
        while half.next in half.early:
            half.queue.append(half.early.pop(half.next))
            half.next += 1
        self._happened(half)

    def on_taken(self, src: Address, msg: ChannelTaken) -> None:
        """The other side has accepted the channel, or taken so much in all."""
        half = self.halves.get((src, msg.number, not msg.opener))
        if half is not None:
            half.accepted = True
            half.peer_taken = max(half.peer_taken, msg.taken)
            self._happened(half)

    # -------------------------------------------------------------- ends

    def close(self, half: ChannelHalf) -> None:
        """Send nothing more and read nothing more."""
        if self.halves.pop((half.peer, half.number, half.opener), None) is not None and not half.ended:
            self.state.send(half.peer, ChannelEnd(half.number, half.opener, half.sent, ""))
        half.queue.clear()
        half.early.clear()
        self._end(half, "it is closed")

    def on_end(self, src: Address, msg: ChannelEnd) -> None:
        """The other side has closed the channel, or refused it."""
        half = self.halves.get((src, msg.number, not msg.opener))
        if half is not None:
            half.last = msg.sent
            self._end(half, msg.why or f"process {src} has closed it")
            if not half.opener and not half.accepted:
                self._withdraw(half)

    def process_gone(self, addr: Address) -> None:
        """A process has ended: channels to it are lost."""
        self._lose_where(lambda peer: peer == addr, _has_ended(addr))

    def node_gone(self, node: int, why: str) -> None:
        """A node is gone, with its processes."""
        self._lose_where(lambda peer: peer.node == node, f"its node {node} is gone: {why}")

    def lose(self, why: str) -> None:
        """The session is gone."""
        self._lose_where(lambda peer: True, why)
        for waiters in self.waiting.values():
            _wake(self.state, waiters)

    def _lose_where(self, is_meant: Callable[[Address], bool], why: str) -> None:
        for key in [key for key in self.halves if is_meant(key[0])]:
            self._lose(self.halves.pop(key), why)

    def _lose(self, half: ChannelHalf, why: str) -> None:
        half.lost = half.last is None or half.next < half.last
        half.early.clear()
        self._end(half, why)
        if not half.opener and not half.accepted:
            self._withdraw(half)

    def _end(self, half: ChannelHalf, why: str) -> None:
        if not half.ended:
            half.ended, half.why = True, why
        self._happened(half)

    def _happened(self, half: ChannelHalf) -> None:
        _wake(self.state, half.waiters)


def _wake(state: OwnerState, waiters: list[Waiter]) -> None:
    for waiter in waiters:
        waiter.needed = 0
        state.woken.append(waiter)
    waiters.clear()


def _cost(data: bytes) -> int:
    return len(data) + MESSAGE_BYTES


def _has_ended(process: Address) -> str:
    return f"process {process} has ended"
