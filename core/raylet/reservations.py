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

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from hpc.core.ids import Address
from hpc.core.pieces import UNIT, Pieces, fit
from hpc.core.raylet.bundles import Bundles
from hpc.core.raylet.kept_devices import Ids, fixed, keep, never_fits
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


def bundles_of(msg: BundlePrepare) -> list[Amounts]:
    """The bundles that are asked for."""
    return [amounts for _, amounts in msg.bundles]


def total(parts: Iterable[Mapping[str, int]]) -> Amounts:
    """All of these amounts together."""
    found: Amounts = {}
    for amounts in parts:
        for name, units in amounts.items():
            found[name] = found.get(name, 0) + units
    return found


class Reservation(Struct, eq=False):
    """Room kept for bundles that ``src`` has asked for, or for a demand, ``until`` then."""

    amounts: Amounts
    src: Address | None = None
    msg: BundlePrepare | None = None
    key: Key | None = None
    demand: Demand | None = None
    until: float = 0.0

    @property
    def parts(self) -> list[Amounts]:
        """Its amounts one by one, as they are taken."""
        return [self.amounts] if self.msg is None else bundles_of(self.msg)


class Patience(Struct):
    """A demand that waits, having got ``sent`` so far: when its next reservation may begin, and how long that lasts."""

    sent: int
    reserve_at: float
    reserve_s: float


class Reservations:
    """The reservations of one node: pure."""

    def __init__(
        self,
        resources: NodeResources,
        bundles: Bundles,
        procs: Mapping[int, Proc],
        leases: Mapping[int, Lease],
        node: int,
    ) -> None:
        self.resources = resources
        self.leases = leases
        self.bundles = bundles
        self.procs = procs
        self.node = node
        self.waiting: list[Reservation] = []
        self._patience: dict[Key, Patience] = {}
        self.after_s = RESERVE_AFTER_S
        self.reserve_s = RESERVE_S
        self.begun = 0

    # -------------------------------------------------------------- what others may have

    def _before(self, asker: Demand | Reservation | None) -> Iterator[Reservation]:
        """All reservations, or those that come before one of them."""
        for reservation in self.waiting:
            if asker is not None and (reservation is asker or reservation.demand is asker):
                return
            if reservation.demand is None or reservation.demand.want:  # else it has all that it wanted
                yield reservation

    def kept(self, before: Demand | Reservation | None = None) -> Amounts:
        """What is kept for all, or for those who come before one of them."""
        total: Amounts = {}
        for reservation in self._before(before):
            for name, units in reservation.amounts.items():
                total[name] = total.get(name, 0) + units
        return total

    def kept_devices(self, before: Demand | Reservation | None = None) -> Ids:
        """Which devices are kept for all, or for those who come before one of them."""
        if not self.resources.instances:
            return {}
        waiting = [reservation.parts for reservation in self._before(before)]
        return keep(self.resources, waiting, self._fixed()) if waiting else {}

    def _fixed(self) -> dict[str, dict[str, int]]:
        return fixed(self.resources, self.leases.values(), self.bundles.held.values())

    def leaves(self, parts: Sequence[Mapping[str, int]], asker: Demand | Reservation | None = None) -> bool:
        """Whether these amounts can be taken without touching what is kept for others."""
        resources, kept = self.resources, self.kept(asker)
        for name in {name: None for part in parts for name, units in part.items() if units}:
            amounts = [part.get(name, 0) for part in parts]
            if name in resources.instances:
                if not fit(resources.pieces(self.kept_devices(asker))[name], amounts):
                    return False
            elif resources.free.get(name, 0) - sum(amounts) < kept.get(name, 0):
                return False
        return True

    def allows(self, demand: Demand) -> bool:
        """Whether a demand may be served from the node's own resources now."""
        return self.leaves([demand.held], demand) or self._helps(demand)

    def withheld(self, demand: Demand) -> Ids | None:
        """The devices that a demand does not get because they are kept for others."""
        return self.kept_devices(demand) if self.waiting and not self._helps(demand) else None

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

    def pieces_for_others(self) -> Pieces:
        """The same on each device that is not full."""
        return self.resources.pieces(self.kept_devices() if self.waiting else None)

    def never(self, parts: Sequence[Amounts], leases: Collection[Lease]) -> str:
        """Why waiting for tasks to end would not make this room; empty if it would."""
        left = dict(self.resources.totals)
        for lease in leases:
            if lease.actor and lease.pool is self.resources:
                for name, units in lease.grant.amounts.items():
                    left[name] = left.get(name, 0) - units
        for bundle in self.bundles.held.values():
            for name, units in bundle.grant.amounts.items():
                left[name] = left.get(name, 0) - units
        amounts = total(parts)
        room = fits(left, amounts) and not never_fits(self.resources, parts, self._fixed())
        return "" if room else "actors or other placement groups have what it needs"

    # -------------------------------------------------------------- bundles

    def wait_for(self, src: Address, msg: BundlePrepare) -> None:
        """Keep room for bundles as it becomes free."""
        self.cancel(msg.group, 0)
        self.waiting.append(Reservation(total(bundles_of(msg)), src=src, msg=msg))

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
        return [one for one in self.waiting if one.msg is not None and self.leaves(one.parts, one)]

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
            if served or now >= reservation.until or self.never(reservation.parts, leases):
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
                if now < patience.reserve_at or not _is_large(demand, leases) or self.never([demand.placement], leases):
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
        free, devices = self.resources.free, self.resources.instances
        lacking = {name: units - free.get(name, 0) for name, units in self.kept().items() if name not in devices}
        lacking_devices = {
            (name, ident)
            for name, idents in self.kept_devices().items()
            for ident in idents
            if devices[name][ident] < UNIT
        }
        mine = [le for le in leases if le.pool is self.resources and not le.actor and not le.grant.cpu_lent]
        for lease in mine:
            if lease.recalled_at >= 0:
                for name, units in lease.grant.amounts.items():
                    lacking[name] = lacking.get(name, 0) - units
        found: dict[Address, list[int]] = {}
        for lease in sorted(mine, key=lambda le: le.since):
            if lease.recalled_at >= 0 or lease.worker is None:
                continue
            holds = {(name, ident) for name, shares in lease.grant.shares.items() for ident in shares}
            if not holds.isdisjoint(lacking_devices) or any(
                lacking.get(name, 0) > 0 and units for name, units in lease.grant.amounts.items()
            ):
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
