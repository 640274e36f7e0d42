"""Who owns the actors that outlive their creators: one worker that the head has leased for itself.

An actor is owned by a process. A detached actor is owned by the *keeper*, an ordinary worker that is asked for when the
first such actor is made, on the head's node where that takes work, and that nobody ever gives back. If the keeper is
killed its actors end as those of any dead owner do.

Rejected: the head as the owner (it would have to hold code and argument bytes, and to survive with them), a raylet as
the owner (the same, and nodes come and go).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from hpc.core.ids import HEAD, Address, raylet_of
from hpc.core.wire import Answer, KeeperQuery, LeaseGrant, LeaseLost, LeaseRequest, Message

#: Each start of the head numbers its requests anew, out of the way of an earlier one's.
REQS_PER_EPOCH = 1 << 16


class Keeper:
    """The pure part of a head that finds the keeper. ``nodes`` gives the numbers of the nodes that take work."""

    def __init__(
        self, epoch: int, outbox: Callable[[Address, Message], None], nodes: Callable[[], Iterable[int]]
    ) -> None:
        self.addr: Address | None = None
        self._send = outbox
        self._nodes = nodes
        self._waiting: list[tuple[Address, int]] = []
        self.begin(epoch)
        self._lease = 0
        self._asked: int | None = None
        self._written: list[int] = []

    def begin(self, epoch: int) -> None:
        """Number the requests of a head from its own number on."""
        self._req = epoch * REQS_PER_EPOCH

    def changes(self) -> Iterator[tuple[bytes, list[int]]]:
        """Where the keeper is, if that has changed: the one row that there is."""
        row = self._row()
        if row != self._written:
            self._written = row
            yield b"", row

    def rows(self) -> Iterator[tuple[bytes, list[int]]]:
        """The one row."""
        yield b"", self._row()

    def _row(self) -> list[int]:
        return [] if self.addr is None else [*self.addr, self._lease]

    def load(self, key: bytes, data: list[int]) -> None:
        """Where it was when the row was written."""
        self.addr = Address(data[0], data[1]) if data else None
        self._lease = data[2] if data else 0
        self._written = list(data)

    def on_query(self, src: Address, msg: KeeperQuery) -> None:
        self._waiting.append((src, msg.req))
        if self.addr is not None:
            self._answer()
        elif self._asked is None:
            self._ask()

    def _ask(self) -> None:
        node = min(self._nodes(), default=None)
        if node is None:
            return
        self._asked = node
        self._req += 1
        self._send(raylet_of(node), LeaseRequest(self._req, HEAD, {}, {}, 1, 0, False, ["node", node, False], {}))

    def _answer(self) -> None:
        assert self.addr is not None
        waiting, self._waiting = self._waiting, []
        for src, req in waiting:
            self._send(src, Answer(req, True, msgspec.msgpack.encode(tuple(self.addr))))

    def on_grant(self, src: Address, msg: LeaseGrant) -> None:
        if msg.req == self._req and self.addr is None:
            self.addr, self._lease, self._asked = msg.worker, msg.lease, None
            self._answer()

    def on_lost(self, msg: LeaseLost) -> Address | None:
        """The keeper has ended, if it was this lease: its address then. Another one is made when asked for."""
        if msg.lease != self._lease or self.addr is None:
            return None
        gone, self.addr = self.addr, None
        return gone

    def forget_node(self, node: int) -> None:
        """A node is gone, maybe with the keeper or the request for one."""
        if self.addr is not None and self.addr.node == node:
            self.addr = None
        if self._asked == node:
            self._asked = None
            if self._waiting:
                self._ask()
