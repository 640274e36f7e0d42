"""Which devices are kept for those who wait, so that fractions do not take them again as they become free.

A device is kept as a whole, also while others still use it. Chosen are devices that actors and placement groups leave
alone, and of those the freest, as they are there first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from hpc.core.pieces import UNIT, devices_for, fit
from hpc.core.raylet.tables import Bundle, Lease
from hpc.core.resources import Amounts, NodeResources

#: The ids of devices, per resource.
Ids = dict[str, set[str]]


def fixed(resources: NodeResources, leases: Collection[Lease], bundles: Iterable[Bundle]) -> dict[str, dict[str, int]]:
    """How much of each device actors and placement groups hold, who give nothing back."""
    held = {name: dict.fromkeys(instances, 0) for name, instances in resources.instances.items()}
    grants = [lease.grant for lease in leases if lease.actor and lease.pool is resources]
    for grant in [*grants, *(bundle.grant for bundle in bundles)]:
        for name, shares in grant.shares.items():
            for ident, units in shares.items():
                held[name][ident] += units
    return held


def keep(resources: NodeResources, waiting: Iterable[Sequence[Amounts]], held: Mapping[str, Mapping[str, int]]) -> Ids:
    """The devices that are kept for all that waits, each of which is some amounts."""
    found: Ids = {}
    for parts in waiting:
        for name, instances in resources.instances.items():
            count = devices_for([one.get(name, 0) for one in parts])
            if count:
                kept = found.setdefault(name, set())
                left = [ident for ident in instances if ident not in kept]
                left.sort(key=lambda ident: (held[name][ident], -instances[ident]))
                kept.update(left[:count])
    return found


def never_fits(resources: NodeResources, parts: Sequence[Amounts], held: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether no end of a task makes room on the devices for these amounts."""
    return any(
        not fit(
            sorted((UNIT - held[name][ident] for ident in instances), reverse=True),
            [one.get(name, 0) for one in parts],
        )
        for name, instances in resources.instances.items()
    )
