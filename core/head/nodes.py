"""The nodes as the head knows them, and what it has promised of them by tickets that no report shows yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hpc.core.ids import Address, raylet_of
from hpc.core.pieces import Pieces
from hpc.core.resources import Amounts
from hpc.core.wire import NodeInfo, Vacancy

#: A ticket that was not reported as spent is forgotten after this time.
TICKET_S = 2.0


@dataclass
class Node:
    """A node as the head knows it. ``promised`` is the sum of its ``tickets``. ``heard``, ``try_at`` and ``refused_at``
    are on the head's own clock, `awake_s`.

    ``port_seen``: its raylet's port took a connection once; ``refused_at``: since when it refuses them. ``draining``:
    why it takes nothing new before its end. ``vacancy``: how much it is in use, ``since`` then. ``leaving``: it is to
    be vacated.
    """

    info: NodeInfo
    free: dict[str, int]
    heard: float
    workers: int = 0
    waiting: int = 0
    suspect: bool = False
    draining: str = ""
    vacancy: Vacancy = "used"
    since: float = 0.0
    keeps: bool = False
    leaving: bool = False
    port_seen: bool = False
    try_at: float = 0.0
    refused_at: float | None = None
    tickets: dict[int, Amounts] = field(default_factory=dict)
    promised: dict[str, int] = field(default_factory=dict)
    pieces: Pieces = field(default_factory=dict)
    bundles: dict[tuple[bytes, int], dict[str, int]] = field(default_factory=dict)
    bundle_pieces: dict[tuple[bytes, int], Pieces] = field(default_factory=dict)
    bundle_tickets: dict[int, tuple[tuple[bytes, int], Amounts]] = field(default_factory=dict)
    addr: Address = field(init=False)

    def __post_init__(self) -> None:
        self.addr = raylet_of(self.info.node)

    @property
    def takes_work(self) -> bool:
        """Whether anything is placed there."""
        return not (self.suspect or self.draining or self.leaving or self.info.gateway)


class Promises:
    """All tickets that count. Whoever changes what is free on a node puts its number into ``stale``."""

    def __init__(self, nodes: dict[int, Node], stale: dict[int, None], epoch: int) -> None:
        self.nodes = nodes
        self.stale = stale
        self.now = 0.0
        #: A ticket for a bundle counts no more.
        self.bundles_changed = False
        self.begin(epoch)
        self._at: dict[int, int] = {}
        #: In the order in which they lapse.
        self._lapse: deque[tuple[float, int]] = deque()

    def begin(self, epoch: int) -> None:
        """Number the tickets of a head from its own number on."""
        self._next = epoch << 40

    def _new(self, number: int) -> int:
        self._next += 1
        self._at[self._next] = number
        self._lapse.append((self.now + TICKET_S, self._next))
        return self._next

    def new(self, number: int, amounts: Amounts) -> int:
        """A number under which these amounts count as used on a node until its report shows it."""
        ticket, node = self._new(number), self.nodes[number]
        node.tickets[ticket] = amounts
        promised = node.promised
        for name, units in amounts.items():
            promised[name] = promised.get(name, 0) + units
        self.stale[number] = None
        return ticket

    def new_in_bundle(self, number: int, bundle: tuple[bytes, int], amounts: Amounts) -> int:
        """The same for what is free in a bundle."""
        ticket = self._new(number)
        self.nodes[number].bundle_tickets[ticket] = (bundle, amounts)
        return ticket

    def end(self, ticket: int) -> None:
        """A ticket counts no more: it was spent, or has lapsed."""
        number = self._at.pop(ticket, 0)
        node = self.nodes.get(number)
        if node is None:
            return
        self.bundles_changed |= node.bundle_tickets.pop(ticket, None) is not None
        for name, units in node.tickets.pop(ticket, {}).items():
            node.promised[name] -= units
            if not node.promised[name]:
                del node.promised[name]
        self.stale[number] = None

    def lapse(self) -> None:
        """Forget what is too old."""
        lapse = self._lapse
        while lapse and lapse[0][0] < self.now:
            ticket = lapse.popleft()[1]
            if ticket in self._at:
                self.end(ticket)

    def forget_all(self) -> None:
        """No ticket counts."""
        for ticket in list(self._at):
            self.end(ticket)
        self._lapse.clear()
