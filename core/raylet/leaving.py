"""A node leaves and others go on: the values that lie here, and that somebody may still want, move to them.

Pure. The owner of an object is asked whether it is wanted. Another node takes it and keeps it as its own. The owner
hears of the place and is asked once more: when its answer names that, the object is safe. (News of this node's end,
which comes another way, may be faster than news of a place.) An owner that has not heard of the object yet, because the
outcome of its task is on the way, does not name it. It is asked again. What nobody wants is freed.

What no task would make again goes first, small before large. The bytes stay here, too, for those who read them.
Rejected: moving what processes of this node own. It ends with them; nobody could say where it is. Values that the
head inherits of an owner that has ended stay here too. Nobody answers for them, and the node would wait to the end of
its time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hpc.core.ids import Address, owner_of, raylet_of
from hpc.core.raylet.object_store import ObjectStore
from hpc.core.wire import Keep, Kept, Leaving, LocationAdded, Message, NodeInfo, StillWanted

#: A message names at most so many objects.
ASK_BATCH = 100
#: An owner that does not name an object is asked again after this time, and less and less often.
ASK_AGAIN_S, ASK_AGAIN_MOST_S = 0.05, 1.0
#: For each object that is here it is looked so much less often.
LOOK_S = 2e-6
#: Bytes that are on their way to other nodes at a time; one object may always go.
MOVING_BYTES = 128 << 20
#: And so many objects: who takes them looks through all that it waits for.
MOVING_OBJECTS = 64
#: A node that leaves goes on for so long after it was told to end: what it said last is on its way.
LAST_WORDS_S = 0.05
#: After this time nodes that had no room are asked again.
NO_ROOM_S = 1.0

Place = Literal["here", "queued", "moving", "told", "safe"]


@dataclass(slots=True, eq=False)
class Move:
    """An object that has to be elsewhere: ``to`` is the node that it moves to, or is at. Its owner says that ``others``
    have it, and whether its task would make it ``again``."""

    ident: bytes
    size: int
    place: Place = "here"
    to: int = 0
    others: tuple[int, ...] = ()
    again: bool = False
    ask_at: float = 0.0
    wait_s: float = ASK_AGAIN_S
    tried: tuple[int, ...] = ()


class Departure:
    """The values of one node that leaves. ``nodes`` are the other nodes that are alive."""

    def __init__(
        self,
        node: int,
        store: ObjectStore,
        nodes: Callable[[], dict[int, NodeInfo]],
        outbox: list[tuple[Address, Message]],
    ) -> None:
        self.node = node
        self.store = store
        self.nodes = nodes
        self.outbox = outbox
        self.began = False
        #: Whether all was safe when it was looked at last.
        self.over = False
        self.moves: dict[bytes, Move] = {}
        #: What is to go next, as (a task would make it again, its size, when it was queued, it).
        self.queue: list[tuple[bool, int, int, Move]] = []
        self.moving_bytes = self.moving_objects = 0
        #: Nodes that take nothing.
        self.closed: set[int] = set()
        self.moved_bytes = self.moved_objects = 0
        self._queued = self._turn = 0
        self._look_at = 0.0

    # -------------------------------------------------------------- what has to move

    def begin(self) -> None:
        """The node leaves."""
        self.began = True

    def give_up(self) -> None:
        """All nodes leave: there is nowhere to go."""
        self.began = self.over = False
        self.moves.clear()
        self.queue.clear()
        self.moving_bytes = self.moving_objects = 0

    @property
    def left(self) -> list[Move]:
        """What is not safe yet."""
        return [move for move in self.moves.values() if move.place != "safe"]

    def node_died(self, node: int) -> None:
        """What was there has to go elsewhere."""
        self._look_at = 0.0  # copies of what that node had made may be the last ones
        for move in self.moves.values():
            if move.to == node:
                self._leave_place(move)
                move.place, move.to, move.ask_at, move.wait_s = "here", 0, 0.0, ASK_AGAIN_S

    def tick(self, now: float) -> float:
        """Ask owners and send what can be sent; returns the time of the next look."""
        if not self.began:
            return now + 1.0
        if now >= self._look_at:
            self._look_at = now + ASK_AGAIN_S + len(self.store.stored) * LOOK_S
            self.look()
            self._ask(now)
        self._send(now)
        return now + ASK_AGAIN_S

    def look(self) -> None:
        """Find what is here and is not said to be elsewhere; forget what is gone."""
        stored, moves, ownerless = self.store.stored, self.moves, self.store.ownerless
        for ident in [ident for ident in moves if ident not in stored or ownerless.has_no_owner(ident)]:
            self._leave_place(moves.pop(ident))
        for ident, obj in stored.items():
            if obj.copy or obj.freed or ident in moves or owner_of(ident).node == self.node:
                continue
            if not ownerless.has_no_owner(ident):
                moves[ident] = Move(ident, obj.size)
        self.over = not self.left

    def _leave_place(self, move: Move) -> None:
        if move.place == "moving":
            self.moving_bytes -= move.size
            self.moving_objects -= 1

    # -------------------------------------------------------------- owners

    def _ask(self, now: float) -> None:
        asked: dict[Address, list[bytes]] = {}
        for ident, move in self.moves.items():
            if move.place in ("here", "told") and move.ask_at <= now:
                move.ask_at = now + move.wait_s
                move.wait_s = min(2 * move.wait_s, ASK_AGAIN_MOST_S)
                asked.setdefault(owner_of(ident), []).append(ident)
        for owner, idents in asked.items():
            for at in range(0, len(idents), ASK_BATCH):
                self.outbox.append((owner, Leaving(idents[at : at + ASK_BATCH])))

    def on_wanted(self, src: Address, msg: StillWanted) -> None:
        """An owner wants these."""
        for ident, nodes, again in zip(msg.idents, msg.nodes, msg.again):
            move = self.moves.get(ident)
            if move is None or owner_of(ident) != src:
                continue
            if move.place == "told" and move.to in nodes:
                move.place = "safe"
                self.moved_objects += 1
                self.moved_bytes += move.size
            elif move.place == "here":
                move.place = "queued"
                move.others, move.again = tuple(node for node in nodes if node != self.node), again
                self._queue(move)

    # -------------------------------------------------------------- other nodes

    def _queue(self, move: Move) -> None:
        self._queued += 1
        heapq.heappush(self.queue, (move.again, move.size, self._queued, move))

    def _send(self, now: float) -> None:
        while self.queue and self._has_room(self.queue[0][1]):
            move = heapq.heappop(self.queue)[3]
            obj = self.store.stored.get(move.ident)
            if move.place != "queued" or self.moves.get(move.ident) is not move or obj is None or obj.freed:
                continue
            to = self._choose(move)
            if not to:
                move.place, move.tried, move.ask_at = "here", (), now + NO_ROOM_S
                continue
            move.place, move.to = "moving", to
            self.moving_bytes += move.size
            self.moving_objects += 1
            places = [self.node, *(node for node in move.others if node != to)]
            self.outbox.append((raylet_of(to), Keep(move.ident, move.size, places)))

    def _has_room(self, size: int) -> bool:
        """Whether one more may be on its way."""
        some = self.moving_objects > 0
        return not some or (self.moving_objects < MOVING_OBJECTS and self.moving_bytes + size <= MOVING_BYTES)

    def _choose(self, move: Move) -> int:
        """Where it goes: where it is already, else to each of the others in turn; 0 where nobody takes it."""
        able = [
            number
            for number, info in self.nodes().items()
            if not info.gateway and number != self.node and number not in self.closed and number not in move.tried
        ]
        having = [number for number in able if number in move.others]
        self._turn += 1
        return having[0] if having else able[self._turn % len(able)] if able else 0

    def on_kept(self, src: Address, msg: Kept) -> None:
        """A node has it, or does not take it."""
        if msg.never:
            self.closed.add(src.node)
        move = self.moves.get(msg.ident)
        if move is None or move.place != "moving" or move.to != src.node:
            return
        self._leave_place(move)
        if msg.why:
            move.place, move.to = "queued", 0
            move.tried = (*move.tried, src.node)
            self._queue(move)
        else:
            move.place, move.ask_at, move.wait_s = "told", 0.0, ASK_AGAIN_S
            self.outbox.append((owner_of(move.ident), LocationAdded(move.ident, src.node)))
