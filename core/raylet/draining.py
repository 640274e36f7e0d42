"""A node that is about to end: what is told to whom when it drains, or when another task could not finish any more.

Pure. Running work goes on: it is ended with the node, or before it by itself. Rejected: ending tasks so that others may
run (those that wait can wait elsewhere, or in the next job).
"""

from __future__ import annotations

from hpc.core.ids import Address
from hpc.core.raylet.leasing import Leasing
from hpc.core.wire import BundlePrepared, LeaseReclaim


def recall_late(leasing: Leasing, now: float) -> float:
    """Have leases given back on which another task could not finish; when to look again."""
    for ident in leasing.closing.late(now):
        lease = leasing.leases.get(ident)
        if lease is not None:
            leasing.outbox.append((lease.owner, LeaseReclaim(leasing.node, [ident])))
    return leasing.closing.next_at(now)


def begin(leasing: Leasing, why: str) -> None:
    """From now on nothing new is leased here. Owners give back what they have when it is empty; what waits here goes
    back to where it came from."""
    leasing.closing.why = why
    owners: dict[Address, list[int]] = {}
    for lease in leasing.leases.values():
        if not lease.actor and lease.worker is not None:
            owners.setdefault(lease.owner, []).append(lease.ident)
    for owner, idents in owners.items():
        leasing.outbox.append((owner, LeaseReclaim(leasing.node, idents)))
    for demand in leasing.guests.values():
        demand.until = leasing.now
    reservations = leasing.reservations
    for kept in list(reservations.waiting):
        reservations.waiting.remove(kept)
        if kept.msg is not None and kept.src is not None:
            answer = BundlePrepared(kept.msg.group, kept.msg.attempt, False, why)
            leasing.outbox.append((kept.src, answer))
