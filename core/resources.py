"""Amounts of resources, exact to 1/10,000, and which instance of an accelerator is whose.

Amounts are integers in units of 1/10,000, so that ten tasks of 0.1 GPU fill a GPU and no rounding is ever needed.
Floats were rejected (0.1 * 3 > 0.3), as was Decimal (slower, and users write floats anyway).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

UNIT = 10_000
#: Resources whose instances can be told apart and are handed out by id.
INSTANCE_RESOURCES = ("GPU", "TPU")

Amounts = dict[str, int]


def to_units(name: str, amount: float) -> int:
    """An amount as written by the user, in units.

    Raises ValueError for negative amounts and for those finer than 1/10,000.
    """
    if amount < 0:
        raise ValueError(f"the amount of resource {name!r} is {amount}; it cannot be negative")
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

    ``free`` may go below zero for CPU while a worker that lent its CPU has resumed.
    """

    def __init__(self, totals: Mapping[str, int], instance_ids: Mapping[str, Iterable[str]] | None = None) -> None:
        self.totals: Amounts = dict(totals)
        self.free: Amounts = dict(totals)
        ids = instance_ids or {}
        self._instances: dict[str, dict[str, int]] = {}
        for name in INSTANCE_RESOURCES:
            count = self.totals.get(name, 0) // UNIT
            if count:
                names = list(ids.get(name, [])) or [str(i) for i in range(count)]
                self._instances[name] = dict.fromkeys(names[:count], UNIT)

    @classmethod
    def part(cls, grant: Grant) -> NodeResources:
        """What a grant holds, to be handed out further: the same instances, or the same shares of them."""
        part = cls(grant.amounts)
        part._instances = {name: dict(shares) for name, shares in grant.shares.items()}
        return part

    def fits(self, wanted: Mapping[str, int]) -> bool:
        """Whether ``acquire`` would succeed now."""
        if not fits(self.free, wanted):
            return False
        return all(self._choose(name, wanted[name]) is not None for name in self._instances if wanted.get(name, 0) > 0)

    def _choose(self, name: str, units: int) -> dict[str, int] | None:
        """Which instances give ``units``: whole ones, or the fullest one on which a fraction still fits."""
        instances = self._instances[name]
        if units >= UNIT:
            whole = [i for i, left in instances.items() if left == UNIT]
            need = units // UNIT
            return dict.fromkeys(whole[:need], UNIT) if len(whole) >= need else None
        best = (
            min((left, i) for i, left in instances.items() if left >= units)
            if any(left >= units for left in instances.values())
            else None
        )
        return None if best is None else {best[1]: units}

    def acquire(self, wanted: Mapping[str, int]) -> Grant | None:
        """Take the amounts and choose instances; None where they are not free."""
        if not fits(self.free, wanted):
            return None
        shares: dict[str, dict[str, int]] = {}
        for name in self._instances:
            units = wanted.get(name, 0)
            if units > 0:
                chosen = self._choose(name, units)
                if chosen is None:
                    return None
                shares[name] = chosen
        for name, units in wanted.items():
            if units:
                self.free[name] -= units
        for name, chosen in shares.items():
            for ident, units in chosen.items():
                self._instances[name][ident] -= units
        return Grant({k: v for k, v in wanted.items() if v}, shares)

    def release(self, grant: Grant) -> None:
        """Give back all that the grant holds. A grant is released once."""
        for name, units in grant.amounts.items():
            if not (name == "CPU" and grant.cpu_lent):
                self.free[name] += units
        for name, chosen in grant.shares.items():
            for ident, units in chosen.items():
                self._instances[name][ident] += units
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
