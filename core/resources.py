"""Amounts of resources, exact to 1/10,000, and which instance of an accelerator is whose.

Amounts are integers in units of 1/10,000, so that ten tasks of 0.1 GPU fill a GPU and no rounding is ever needed.
Floats were rejected (0.1 * 3 > 0.3), as was Decimal (slower, and users write floats anyway).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, field

from hpc.core.accelerators.base import INSTANCE_RESOURCES
from hpc.core.pieces import UNIT as UNIT
from hpc.core.pieces import Pieces, of_amounts, times

if TYPE_CHECKING:
    from hpc.core.islands import Islands

Amounts = dict[str, int]
#: The largest amount: its units fit into 64 bits, with a sign.
MOST_AMOUNT = 9e14


def to_units(name: str, amount: float) -> int:
    """An amount as written by the user, in units.

    Raises ValueError for negative amounts, for those finer than 1/10,000, and for what is no number of this size.
    """
    if not 0 <= amount <= MOST_AMOUNT:
        what = "it cannot be negative" if amount < 0 else f"amounts are numbers up to {MOST_AMOUNT:g}"
        raise ValueError(f"the amount of resource {name!r} is {amount}; {what}")
    units = round(amount * UNIT)
    if abs(units - amount * UNIT) > 1e-3:
        raise ValueError(f"the amount of resource {name!r} is {amount}; amounts are multiples of 0.0001")
    if name in INSTANCE_RESOURCES and units > UNIT and units % UNIT:
        raise ValueError(f"{name} amounts above 1 must be whole numbers, not {amount}")
    return units


def from_units(amounts: Mapping[str, int]) -> dict[str, float]:
    """Amounts in units as floats, for people."""
    return {name: units / UNIT for name, units in amounts.items()}


def show(amounts: Mapping[str, int]) -> str:
    """Amounts as people write them: ``CPU: 2, GPU: 0.5``."""
    parts = [f"{name}: {units / UNIT:g}" for name, units in sorted(amounts.items()) if units]
    return ", ".join(parts) or "nothing"


def fits(free: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    """Whether every wanted amount is free."""
    return all(not units or free.get(name, 0) >= units for name, units in wanted.items())


def how_many(free: Mapping[str, int], wanted: Mapping[str, int], limit: int) -> int:
    """How many times ``wanted`` fits into ``free``, at most ``limit``."""
    for name, units in wanted.items():
        if units:
            limit = min(limit, max(0, free.get(name, 0)) // units)
    return limit


class Grant(Struct):
    """What one lease holds: amounts, and the shares of single instances."""

    amounts: Amounts
    shares: dict[str, dict[str, int]] = field(default_factory=dict)
    cpu_lent: bool = False

    def instances(self) -> dict[str, list[str]]:
        """The ids of the instances, per resource."""
        return {name: list(shares) for name, shares in self.shares.items()}


class NodeResources:
    """The resources of one node and what is free of them.

    ``free`` may go below zero for CPU while a worker that lent its CPU has resumed. ``moves`` grows with each change of
    what is free on a device; ``instances`` has that, by resource and id.
    """

    def __init__(
        self,
        totals: Mapping[str, int],
        instance_ids: Mapping[str, Iterable[str]] | None = None,
        islands: Mapping[str, Islands] | None = None,
    ) -> None:
        self.totals: Amounts = dict(totals)
        self.free: Amounts = dict(totals)
        self.moves = 0
        self._islands = islands or {}
        ids = instance_ids or {}
        self.instances: dict[str, dict[str, int]] = {}
        for name, pieces in of_amounts(self.totals).items():
            names = list(ids.get(name, [])) or [str(i) for i in range(len(pieces))]
            self.instances[name] = dict(zip(names, pieces))

    @classmethod
    def part(cls, grant: Grant, islands: Mapping[str, Islands] | None = None) -> NodeResources:
        """What a grant holds, to be handed out further: the same instances, or the same shares of them."""
        part = cls(grant.amounts, islands=islands)
        part.instances = {name: dict(shares) for name, shares in grant.shares.items()}
        return part

    def part_of(self, grant: Grant) -> NodeResources:
        """The same for a grant from here: what is handed out further comes from one island too."""
        return self.part(grant, self._islands)

    def pieces(self, kept: Mapping[str, Collection[str]] | None = None) -> Pieces:
        """What is free on each device that is not full, the largest first, for each resource that has devices.
        ``kept``: devices that do not count."""
        return {
            name: sorted(
                [left for i, left in instances.items() if left > 0 and not (kept and i in kept.get(name, ()))],
                reverse=True,
            )
            for name, instances in self.instances.items()
        }

    def fits(self, wanted: Mapping[str, int]) -> bool:
        """Whether ``acquire`` would succeed now."""
        if not fits(self.free, wanted):
            return False
        return all(
            times([*instances.values()], wanted[name])
            for name, instances in self.instances.items()
            if wanted.get(name, 0) > 0
        )

    def _choose(
        self, name: str, units: int, among: Collection[str] | None, kept: Collection[str]
    ) -> dict[str, int] | None:
        """Which instances give ``units``: whole ones of one island, or the fullest one on which a fraction still
        fits."""
        instances = self.instances[name]
        if units < UNIT:
            best = min((left for i, left in instances.items() if left >= units and i not in kept), default=0)
            if not best:
                return None
            if best < UNIT:
                return {next(i for i, left in instances.items() if left == best and i not in kept): units}
        whole = [i for i, left in instances.items() if left == UNIT and i not in kept and (among is None or i in among)]
        count = max(1, units // UNIT)
        if len(whole) < count:
            return None
        islands = self._islands.get(name)
        return dict.fromkeys(islands.choose(whole, count) if islands is not None else whole[:count], min(units, UNIT))

    def acquire(
        self,
        wanted: Mapping[str, int],
        among: Mapping[str, Collection[str]] | None = None,
        kept: Mapping[str, Collection[str]] | None = None,
    ) -> Grant | None:
        """Take the amounts and choose instances; None where they are not free. ``among``: whole ones are of these;
        ``kept``: instances that are not given."""
        if not fits(self.free, wanted):
            return None
        shares: dict[str, dict[str, int]] = {}
        for name in self.instances:
            units = wanted.get(name, 0)
            if units > 0:
                only, never = among.get(name) if among else None, kept.get(name, ()) if kept else ()
                chosen = self._choose(name, units, only, never)
                if chosen is None:
                    return None
                shares[name] = chosen
        for name, units in wanted.items():
            if units:
                self.free[name] -= units
        for name, chosen in shares.items():
            self.moves += 1
            for ident, units in chosen.items():
                self.instances[name][ident] -= units
        return Grant({k: v for k, v in wanted.items() if v}, shares)

    def acquire_all(
        self, wanted: Sequence[Mapping[str, int]], kept: Mapping[str, Collection[str]] | None = None
    ) -> tuple[list[Grant], int]:
        """Take several amounts, all or none: the grants in their order. Where they do not all fit there are none, and
        the number is that of the one for which there was no room.

        The whole devices of all of them come from one island where one has enough: what belongs together is near. The
        largest choose first, and fractions last.
        """
        grants: dict[int, Grant] = {}
        among: dict[str, Collection[str]] = {}
        for name, instances in self.instances.items() if len(wanted) > 1 else ():
            count = sum(max(0, one.get(name, 0)) // UNIT for one in wanted)
            whole = [i for i, left in instances.items() if left == UNIT and not (kept and i in kept.get(name, ()))]
            if count and name in self._islands and len(whole) >= count:
                among[name] = set(self._islands[name].choose(whole, count))

        def size(index: int) -> int:
            return max((wanted[index].get(name, 0) for name in self.instances), default=0)

        for index in sorted(range(len(wanted)), key=lambda index: -size(index)):
            grant = self.acquire(wanted[index], among, kept)
            if grant is None:
                for taken in grants.values():
                    self.release(taken)
                return [], index
            grants[index] = grant
        return [grants[index] for index in range(len(wanted))], -1

    def release(self, grant: Grant) -> None:
        """Give back all that the grant holds. A grant is released once."""
        for name, units in grant.amounts.items():
            if not (name == "CPU" and grant.cpu_lent):
                self.free[name] += units
        for name, chosen in grant.shares.items():
            self.moves += 1
            for ident, units in chosen.items():
                self.instances[name][ident] += units
        grant.amounts, grant.shares, grant.cpu_lent = {}, {}, False

    def lend_cpu(self, grant: Grant) -> None:
        """The holder is blocked: its CPU (and only that) can be used by others."""
        if not grant.cpu_lent and grant.amounts.get("CPU"):
            self.free["CPU"] += grant.amounts["CPU"]
            grant.cpu_lent = True

    def resume_cpu(self, grant: Grant) -> None:
        """The holder goes on without waiting; free CPU may go below zero until others finish."""
        if grant.cpu_lent:
            self.free["CPU"] -= grant.amounts["CPU"]
            grant.cpu_lent = False
