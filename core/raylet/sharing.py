"""Fair shares: which owner gets the next worker, and which one gives one back, when several want more than there is.

Shares are equal between drivers; then between the submitters of one driver (itself, and tasks that submit tasks); then
between the demands of one submitter. What counts is the number of workers that hold resources now: those that have
lent their CPU do not. Actors count, but their place is theirs. Weighing by amounts was rejected: a task with a whole
GPU cannot give back a part of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hpc.core.ids import Address
from hpc.core.raylet.tables import Demand, Lease
from hpc.core.resources import fits

#: A demand that has waited so long makes those who have more than their share give back workers.
FAIR_AFTER_S = 0.05
#: A worker that was recalled and is still busy after this time is not counted on any more.
STALE_S = 1.0

Key = tuple[Address, int]


class Sharing:
    """The pure rule. It remembers only since when which demand waits."""

    def __init__(self) -> None:
        self._since: dict[Key, float] = {}
        self._look_at = 0.0
        self._grants = 0
        self._last: dict[Address, int] = {}

    def granted(self, demand: Demand) -> None:
        """Among equals the one goes first whose last turn is longest ago."""
        self._grants += 1
        demand.served = self._last[demand.driver] = self._last[demand.owner] = self._grants

    def forget(self, owner: Address) -> None:
        """A driver or submitter has ended."""
        self._last.pop(owner, None)

    def order(self, waiting: list[Demand], leases: Collection[Lease]) -> None:
        """Sort demands: drivers that have least first, then children of blocked tasks, then who has least."""
        held, last = _held(leases), self._last
        waiting.sort(
            key=lambda d: (
                (held[d.driver], last.get(d.driver, 0), d.driver),
                (-d.depth, held[(d.driver, d.owner)], last.get(d.owner, 0), d.owner),
                (held[(d.driver, d.owner, d.req)], d.served),
            )
        )

    def recalls(
        self, waiting: Sequence[Demand], leases: Mapping[int, Lease], now: float
    ) -> tuple[dict[Address, list[int]], float]:
        """Which leases their owners should give back, and when to look again."""
        found: dict[Address, list[int]] = {}
        if not waiting:
            self._since.clear()
            return found, now + 1.0
        if now < self._look_at:
            return found, self._look_at
        self._look_at = now + FAIR_AFTER_S / 2
        since = self._since = {(d.owner, d.req): self._since.get((d.owner, d.req), now) for d in waiting}
        late = [d for d in waiting if any(d.placement.values()) and now - since[(d.owner, d.req)] >= FAIR_AFTER_S]
        if late:
            held = _held(leases.values())
            coming = sum(1 for le in leases.values() if 0 <= now - le.recalled_at < STALE_S and le.recalled_at >= 0)
            for demand in late:
                lease = _victim(demand, leases.values(), held, coming, now)
                if lease is not None:
                    coming += 1
                    lease.recalled_at = now
                    found.setdefault(lease.owner, []).append(lease.ident)
        return found, self._look_at


def _held(leases: Collection[Lease]) -> Counter[Any]:
    """Workers per driver, per (driver, submitter) and per (driver, submitter, request)."""
    held: Counter[Any] = Counter()
    for lease in leases:
        if lease.grant.amounts and not lease.grant.cpu_lent and lease.recalled_at < 0:
            held[lease.driver] += 1
            held[(lease.driver, lease.owner)] += 1
            held[(lease.driver, lease.owner, lease.req)] += 1
    return held


def _victim(demand: Demand, leases: Collection[Lease], held: Counter[Any], coming: int, now: float) -> Lease | None:
    """A lease whose return would make shares more equal, of whom has most and not just got it. ``coming`` were
    recalled already."""
    best: Lease | None = None
    most = (0, 0, 0)
    for lease in leases:
        if lease.actor or lease.recalled_at >= 0 or lease.grant.cpu_lent or lease.worker is None:
            continue
        if now - lease.since < FAIR_AFTER_S or not fits(lease.grant.amounts, demand.placement):
            continue
        theirs = (lease.driver, (lease.driver, lease.owner), (lease.driver, lease.owner, lease.req))
        mine = (demand.driver, (demand.driver, demand.owner), (demand.driver, demand.owner, demand.req))
        level = next((i for i in range(3) if theirs[i] != mine[i]), None)
        if level is None:
            continue
        counts = (held[theirs[0]], held[theirs[1]], held[theirs[2]])
        if _unfair(counts[level], held[mine[level]] + coming) and counts > most:
            best, most = lease, counts
    return best


def _unfair(theirs: int, mine: int) -> bool:
    """Whether a worker should change hands: it makes the two more equal, or one of them has none at all."""
    return theirs >= mine + 2 or (mine == 0 and theirs >= 1)
