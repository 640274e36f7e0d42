"""Where the bundles of a placement group go: a pure function over a snapshot.

Plans over nodes are in `room`, what labels of a topology ask for is in `domains`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from hpc.core.policy.domains import Topology, plan
from hpc.core.policy.placement import Snapshot
from hpc.core.policy.room import BundleKind, Room

#: A group of more kinds is planned first as if it had so many, each with the largest amounts of some that are alike.
MAX_KINDS = 16
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


def kinds_of(snapshot: Snapshot, bundles: Sequence[Mapping[str, int]], selectors: Sequence[Any]) -> list[BundleKind]:
    """The kinds of these bundles, the hardest first: those bound to labels, then the largest."""
    found: dict[Any, list[int]] = {}
    for i, bundle in enumerate(bundles):
        selector = repr(selectors[i]) if selectors and selectors[i] else ""
        found.setdefault((selector, *sorted(bundle.items())), []).append(i)
    kinds = []
    for same in found.values():
        first = same[0]
        mask = snapshot.where(selectors[first]) if selectors and selectors[first] else None
        kinds.append(BundleKind(bundles[first], mask, len(same), same))
    size = {name: max(1, int(column.max(initial=0))) for name, column in snapshot.totals.items()}
    kinds.sort(
        key=lambda k: (k.mask is None, -max((u / size.get(n, 1) for n, u in k.amounts.items() if u), default=0.0))
    )
    return kinds


def place_bundles(
    snapshot: Snapshot,
    bundles: Sequence[Mapping[str, int]],
    strategy: str,
    selectors: Sequence[Any] = (),
    *,
    taken: Sequence[int] = (),
    avoid: Collection[int] = (),
    topology: Topology = (),
    labels: Mapping[int, Mapping[str, str]] | None = None,
) -> list[int] | None:
    """The node of each bundle, or None where they do not all fit now.

    ``taken`` are the nodes of the group's bundles that stay where they are; ``avoid`` are nodes that are not used.
    ``strategy`` is that over nodes, ``topology`` has those over the values of labels. ``labels`` are those of nodes in
    ``taken`` that take no work now. Equal bundles have their nodes in the order of the tree.
    """
    if not len(snapshot.nodes):
        return None
    kinds = kinds_of(snapshot, bundles, selectors)
    usable = ~np.isin(snapshot.nodes, list(avoid)) if avoid else np.ones(len(snapshot.nodes), dtype=bool)
    names = dict.fromkeys(name for kind in kinds for name, units in kind.amounts.items() if units)
    room = Room.of(snapshot, names, usable, taken)
    there = snapshot.nodes[room.rows]
    for some in (fewer(kinds), kinds) if len(kinds) > MAX_KINDS and strategy != "STRICT_PACK" else (kinds,):
        counts = plan(snapshot, room.copy(), some, strategy, topology, taken, labels or {})
        if counts is not None:
            nodes = [0] * len(bundles)
            for kind, each in zip(some, counts):
                for i, node in zip(kind.bundles, np.repeat(there, each).tolist()):
                    nodes[i] = node
            return nodes
    return None


def fewer(kinds: Sequence[BundleKind]) -> list[BundleKind]:
    """Kinds that need as much or more, and are not many: what has room for them has room for these."""
    found: list[BundleKind] = []
    size = -(-len(kinds) // MAX_KINDS)
    masks = list(dict.fromkeys(id(kind.mask) for kind in kinds))
    for mask in masks:
        alike = [kind for kind in kinds if id(kind.mask) == mask]
        for first in range(0, len(alike), size):
            some = alike[first : first + size]
            amounts: dict[str, int] = {}
            for kind in some:
                for name, units in kind.amounts.items():
                    amounts[name] = max(units, amounts.get(name, 0))
            bundles = sorted(i for kind in some for i in kind.bundles)
            found.append(BundleKind(amounts, some[0].mask, len(bundles), bundles))
    return found
