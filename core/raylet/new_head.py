"""What a raylet tells a head that has taken the place of another: who it is, what it wants, who has ended.

Names and keys the new head has from its journal. What is free and what waits are told as absolute numbers, so it is
enough to say them from the start. Ends of processes were passed on by the old head, perhaps not to everybody. Those of
the last while are said again, and hearing of one twice changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hpc.core.ids import HEAD, Address
from hpc.core.raylet.borrowing import Borrowing
from hpc.core.raylet.leasing import Leasing
from hpc.core.wire import HeadLeases, HeadRestarted, HoldAdd, Message, ProcessGone

#: Ended processes that are kept to be told again, at most.
MAX_GONE = 100_000


class GoneLately:
    """Processes of this node that others knew and that have ended within ``keep_s``."""

    def __init__(self, keep_s: float) -> None:
        self.keep_s = keep_s
        self._gone: deque[tuple[float, ProcessGone]] = deque(maxlen=MAX_GONE)

    def add(self, msg: ProcessGone, now: float) -> None:
        """One has ended."""
        gone = self._gone
        gone.append((now, msg))
        while gone[0][0] < now - self.keep_s:
            gone.popleft()

    def all(self) -> Iterable[ProcessGone]:
        """The messages that are kept."""
        return [msg for _, msg in self._gone]


def forget_promises(leasing: Leasing) -> None:
    """Nothing that the old head was told or has promised counts any more: demands are told anew, from zero."""
    leasing.spent_tickets.clear()
    leasing.reservations.forget_groups()
    for demand in leasing.demands.values():
        demand.told_head = demand.tickets_seen = 0
    for key in [key for key in leasing.demands if key[0] == HEAD]:
        demand = leasing.demands.pop(key)  # what the head itself wanted it asks for anew
        leasing.guests.pop(key, None)
        leasing.by_shape.pop(demand.shape, None)
    for lease in [lease for lease in leasing.leases.values() if lease.owner == HEAD and lease.worker is None]:
        leasing.release(lease)


def first_words(node: int, gone: GoneLately, leasing: Leasing, borrowing: Borrowing) -> list[tuple[Address, Message]]:
    """What is sent after the registration: to the head, and to the processes of this node."""
    out: list[tuple[Address, Message]] = [(HEAD, msg) for msg in gone.all()]
    held = borrowing.told_anew(HEAD)
    if held:
        out.append((HEAD, HoldAdd(held, node)))
    out += [(HEAD, lost) for lost in leasing.lost_of_head]
    leases = [le for le in leasing.leases.values() if le.owner == HEAD and le.worker is not None]
    out.append((HEAD, HeadLeases([(lease.ident, lease.worker.proc) for lease in leases if lease.worker is not None])))
    out += [(Address(node, proc.proc), HeadRestarted()) for proc in leasing.procs.values() if proc.state != "starting"]
    return out
