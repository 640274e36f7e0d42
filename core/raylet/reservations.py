"""Reservations for large requests that many small ones would starve.

That is for bundles that the head is patient for, and for demands larger than any worker that could be given back.

What a reservation needs is not given to others any more as it becomes free, until all of it is there. Reservations are
served in the order in which they came. The head is patient for one group at a time, so two groups cannot keep room from
each other. A demand's reservation lapses after a while and comes back later, for longer. What it waits for may itself
wait for a task that the reservation keeps out. (The head does the same with groups.) Children of a blocked task whose
end would help pass.
Rejected: ending running tasks, and reserving in advance for times that nobody knows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from hpc.core.ids import Address
from hpc.core.raylet.bundles import Bundles
from hpc.core.raylet.tables import Demand, Lease, Proc
from hpc.core.resources import Amounts, NodeResources, fits
from hpc.core.wire import BundlePrepare

Key = tuple[Address, int]

#: A demand that no single worker's return would serve gets a reservation after this time without a grant.
RESERVE_AFTER_S = 1.0
#: The first reservation of a demand ends after this time at most; each further one lasts twice as long, after a pause
#: of the same length.
RESERVE_S = 10.0
MAX_RESERVE_S = 600.0


def together(msg: BundlePrepare) -> Amounts:
    """All that is asked for."""
    total: Amounts = {}
    for _, amounts in msg.bundles:
        for name, units in amounts.items():
            total[name] = total.get(name, 0) + units
    return total


class Reservation(Struct, eq=False):
    """Room kept for bundles that ``src`` has asked for, or for a demand, ``until`` then."""

    amounts: Amounts
    src: Address | None = None
    msg: BundlePrepare | None = None
    key: Key | None = None
    demand: Demand | None = None
    until: float = 0.0


class Patience(Struct):
    """A demand that waits, having got ``sent`` so far: when its next reservation may begin, and how long that lasts."""

    sent: int
    reserve_at: float
    reserve_s: float


class Reservations:
    """The reservations of one node: pure."""

    def __init__(self, resources: NodeResources, bundles: Bundles, procs: Mapping[int, Proc], node: int) -> None:
        self.resources = resources
        self.bundles = bundles
        self.procs = procs
        self.node = node
        self.waiting: list[Reservation] = []
        self._patience: dict[Key, Patience] = {}
        self.after_s = RESERVE_AFTER_S
        self.reserve_s = RESERVE_S
        self.begun = 0

    # -------------------------------------------------------------- what others may have

    def kept(self, before: Demand | Reservation | None = None) -> Amounts:
        """What is kept for all, or for those who come before one of them."""
        total: Amounts = {}
        for reservation in self.waiting:
            if before is not None and (reservation is before or reservation.demand is before):
                break
            if reservation.demand is not None and not reservation.demand.want:
                continue  # it has all that it wanted
            for name, units in reservation.amounts.items():
                total[name] = total.get(name, 0) + units
        return total

    def leaves(self, wanted: Mapping[str, int], asker: Demand | Reservation | None = None) -> bool:
        """Whether this much can be taken without touching what is kept for others."""
        free, kept = self.resources.free, self.kept(asker)
        return all(not units or free.get(name, 0) - units >= kept.get(name, 0) for name, units in wanted.items())

    def allows(self, demand: Demand) -> bool:
        """Whether a demand may be served from the node's own resources now."""
        return self.leaves(demand.held, demand) or self._helps(demand)

    def _helps(self, demand: Demand) -> bool:
        """Whether the demand comes from a blocked task here that holds a resource which is waited for, other than the
        CPU that it lent."""
        proc = self.procs.get(demand.owner.proc) if demand.owner.node == self.node else None
        if proc is None or not proc.blocked or proc.lease is None or proc.lease.pool is not self.resources:
            return False
        has, kept, free = proc.lease.grant.amounts, self.kept(), self.resources.free
        return any(has.get(name) and name != "CPU" and free.get(name, 0) < units for name, units in kept.items())

    def free_for_others(self) -> Amounts:
        """For reports: what is free and not kept."""
        kept = self.kept()
        return {name: units - min(max(units, 0), kept.get(name, 0)) for name, units in self.resources.free.items()}

    def never(self, amounts: Mapping[str, int], leases: Collection[Lease], group: bytes = b"") -> str:
        """Why waiting for tasks to end would not make this room; empty if it would."""
        left = dict(self.resources.totals)
        for lease in leases:
            if lease.actor and lease.pool is self.resources:
                for name, units in lease.grant.amounts.items():
                    left[name] = left.get(name, 0) - units
        for bundle in self.bundles.held.values():
            for name, units in bundle.grant.amounts.items():
                left[name] = left.get(name, 0) - units
        return "" if fits(left, amounts) else "actors or other placement groups have what it needs"

    # -------------------------------------------------------------- bundles

    def wait_for(self, src: Address, msg: BundlePrepare) -> None:
        """Keep room for bundles as it becomes free."""
        self.cancel(msg.group, 0)
        self.waiting.append(Reservation(together(msg), src=src, msg=msg))

    def cancel(self, group: bytes, attempt: int) -> None:
        """The group is not waited for any more; ``attempt`` 0: whichever it is."""
        self.waiting = [
            h for h in self.waiting if h.msg is None or h.msg.group != group or attempt not in (0, h.msg.attempt)
        ]

    def forget_groups(self) -> None:
        """The head that was patient is gone."""
        self.waiting = [reservation for reservation in self.waiting if reservation.msg is None]

    def ready(self) -> list[Reservation]:
        """Reservations for bundles that may be reserved now."""
        return [one for one in self.waiting if one.msg is not None and self.leaves(one.amounts, one)]

    # -------------------------------------------------------------- demands

    def has(self, demand: Demand) -> bool:
        """Whether room is being kept for this demand."""
        return any(reservation.demand is demand for reservation in self.waiting)

    def look(
        self, demands: Mapping[Key, Demand], stay: Collection[Key], leases: Collection[Lease], now: float
    ) -> float:
        """Begin and end reservations for demands; when to look again. ``stay`` are the demands that wait and may be
        served here."""
        for reservation in [h for h in self.waiting if h.key is not None]:
            assert reservation.key is not None and reservation.demand is not None
            served = demands.get(reservation.key) is not reservation.demand or not reservation.demand.want
            if served or now >= reservation.until or self.never(reservation.amounts, leases):
                self.waiting.remove(reservation)
                patience = self._patience.get(reservation.key)
                if patience is not None:
                    patience.reserve_at = now + patience.reserve_s
                    patience.reserve_s = min(MAX_RESERVE_S, 2 * patience.reserve_s)
        new: dict[Key, Patience] = {}
        for key in stay:
            demand = demands[key]
            old = self._patience.get(key)
            if old is None or old.sent != demand.sent:
                old = Patience(demand.sent, now + self.after_s, self.reserve_s)
            new[key] = old
        self._patience = new
        if not new:
            return now + 1.0
        if not self.waiting:
            for key, patience in new.items():
                demand = demands[key]
                if now < patience.reserve_at or not _is_large(demand, leases) or self.never(demand.placement, leases):
                    continue
                self.begun += 1
                until = now + patience.reserve_s
                self.waiting.append(Reservation(dict(demand.placement), key=key, demand=demand, until=until))
                break
        times = [p.reserve_at for p in new.values() if p.reserve_at > now] + [h.until for h in self.waiting if h.key]
        return min(times, default=now + 1.0)

    # -------------------------------------------------------------- making room

    def recalls(self, leases: Collection[Lease], now: float) -> dict[Address, list[int]]:
        """Workers that their submitters should give back, so that what is kept becomes free."""
        free = self.resources.free
        lacking = {name: units - free.get(name, 0) for name, units in self.kept().items()}
        mine = [le for le in leases if le.pool is self.resources and not le.actor and not le.grant.cpu_lent]
        for lease in mine:
            if lease.recalled_at >= 0:
                for name, units in lease.grant.amounts.items():
                    lacking[name] = lacking.get(name, 0) - units
        found: dict[Address, list[int]] = {}
        for lease in sorted(mine, key=lambda le: le.since):
            if lease.recalled_at >= 0 or lease.worker is None:
                continue
            if any(lacking.get(name, 0) > 0 and units for name, units in lease.grant.amounts.items()):
                lease.recalled_at = now
                found.setdefault(lease.owner, []).append(lease.ident)
                for name, units in lease.grant.amounts.items():
                    lacking[name] = lacking.get(name, 0) - units
        return found


def _is_large(demand: Demand, leases: Collection[Lease]) -> bool:
    """Whether no single worker's return would make room for it."""
    return any(demand.placement.values()) and not any(
        fits(lease.grant.amounts, demand.placement) for lease in leases if not lease.actor
    )
