"""Where the bundles of a placement group go: pure functions over a snapshot.

PACK is first-fit decreasing, and everything on one node where that is possible; an exact packing was rejected (its cost
has no bound). STRICT_SPREAD is a matching and exact: it finds a place whenever there is one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc.core.pieces import fit
from hpc.core.policy.labels import show_selector
from hpc.core.policy.placement import Column, Snapshot
from hpc.core.resources import show

Mask = npt.NDArray[np.bool_]
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class _Room:
    """What is left on each node while a plan is made."""

    def __init__(self, snapshot: Snapshot, wanted: Sequence[Mapping[str, int]], avoid: Collection[int]) -> None:
        self.nodes = snapshot.nodes
        self.size = len(snapshot.nodes)
        names = dict.fromkeys(name for bundle in wanted for name, units in bundle.items() if units)
        zero = np.zeros(self.size, dtype=np.int64)
        self.totals: dict[str, Column] = {n: snapshot.totals.get(n, zero) for n in names}
        self.free: dict[str, Column] = {n: snapshot.free.get(n, zero).copy() for n in names}
        self.devices = {name: devices.copy() for name, devices in snapshot.devices.items() if name in names}
        self.open: Mask = ~np.isin(snapshot.nodes, list(avoid))

    def fits(self, bundle: Mapping[str, int]) -> Mask:
        """The nodes on which a bundle has room."""
        mask = self.open.copy()
        for name, units in bundle.items():
            if units:
                mask &= self.free[name] >= units
                if name in self.devices:
                    mask &= self.devices[name].has(units)
        return mask

    def holds(self, at: int, bundles: Sequence[Mapping[str, int]]) -> bool:
        """Whether the devices of the node in row ``at`` have room for all of these bundles, on whom its amounts do."""
        return all(
            fit(devices.row(at), [bundle.get(name, 0) for bundle in bundles]) for name, devices in self.devices.items()
        )

    def take(self, at: int, bundle: Mapping[str, int]) -> None:
        """Put a bundle on the node in row ``at``."""
        for name, units in bundle.items():
            if units:
                self.free[name][at] -= units
                if name in self.devices:
                    self.devices[name].take(at, units)

    def share(self, bundle: Mapping[str, int]) -> npt.NDArray[np.float64]:
        """The part of each node's own resources that is free, of the one in ``bundle`` that is scarcest there."""
        share = np.ones(self.size)
        for name, units in bundle.items():
            if units:
                share = np.minimum(share, self.free[name] / np.maximum(self.totals[name], 1))
        return share


def place_bundles(
    snapshot: Snapshot,
    bundles: Sequence[Mapping[str, int]],
    strategy: str,
    selectors: Sequence[Any] = (),
    *,
    taken: Sequence[int] = (),
    avoid: Collection[int] = (),
) -> list[int] | None:
    """The node of each bundle, or None where they do not all fit now.

    ``taken`` are the nodes of the group's bundles that stay where they are; ``avoid`` are nodes that are not used.
    """
    room = _Room(snapshot, bundles, avoid)
    if not room.size:
        return None
    masks = [snapshot.where(selectors[i]) if selectors and selectors[i] else None for i in range(len(bundles))]
    size = {name: max(1, int(column.max(initial=0))) for name, column in room.totals.items()}
    weight = [max((u / size[n] for n, u in b.items() if u), default=0.0) for b in bundles]
    # The hardest first: those bound to labels, then the largest.
    order = sorted(range(len(bundles)), key=lambda i: (masks[i] is None, -weight[i]))
    if strategy == "STRICT_PACK":
        rows = _one_node(room, bundles, masks, taken)
    elif strategy == "STRICT_SPREAD":
        rows = _match(room, bundles, masks, order, taken)
    elif strategy == "SPREAD":
        rows = _spread(room, bundles, masks, order, taken)
    else:
        rows = _one_node(room, bundles, masks, taken) or _pack(room, bundles, masks, order, taken)
    return None if rows is None else [int(snapshot.nodes[at]) for at in rows]


def _allowed(room: _Room, bundle: Mapping[str, int], mask: Mask | None) -> Mask:
    fitting = room.fits(bundle)
    return fitting if mask is None else fitting & mask


def _one_node(
    room: _Room, bundles: Sequence[Mapping[str, int]], masks: Sequence[Mask | None], taken: Sequence[int]
) -> list[int] | None:
    """All on one node: where others of the group are, else the one that is left fullest."""
    together: dict[str, int] = {}
    for bundle in bundles:
        for name, units in bundle.items():
            together[name] = together.get(name, 0) + units
    possible = room.open.copy()
    for name, units in together.items():
        if units:
            possible &= room.free[name] >= units
    for mask in masks:
        if mask is not None:
            possible &= mask
    if taken:
        possible &= np.isin(room.nodes, list(taken))
    share = np.where(possible, room.share(together), np.inf)
    while np.isfinite(share).any():
        at = int(share.argmin())
        if room.holds(at, bundles):
            return [at] * len(bundles)
        share[at] = np.inf
    return None


def _pack(
    room: _Room,
    bundles: Sequence[Mapping[str, int]],
    masks: Sequence[Mask | None],
    order: Sequence[int],
    taken: Sequence[int],
) -> list[int] | None:
    rows = [0] * len(bundles)
    used: Mask = np.isin(room.nodes, list(taken))
    for i in order:
        allowed = _allowed(room, bundles[i], masks[i])
        again = allowed & used
        if again.any():
            at = int(np.where(again, room.share(bundles[i]), np.inf).argmin())
        elif allowed.any():
            at = int(np.where(allowed, _how_many(room, bundles[i]), -1).argmax())
        else:
            return None
        used[at] = True
        room.take(at, bundles[i])
        rows[i] = at
    return rows


def _how_many(room: _Room, bundle: Mapping[str, int]) -> Column:
    """How many such bundles each node could take: a new node is to hold as many as possible."""
    count = np.full(room.size, 1 << 40, dtype=np.int64)
    for name, units in bundle.items():
        if units:
            count = np.minimum(count, room.free[name] // units)
            if name in room.devices:
                count = np.minimum(count, room.devices[name].times(units))
    return count


def _spread(
    room: _Room,
    bundles: Sequence[Mapping[str, int]],
    masks: Sequence[Mask | None],
    order: Sequence[int],
    taken: Sequence[int],
) -> list[int] | None:
    rows = [0] * len(bundles)
    held = np.zeros(room.size)
    for node in taken:
        held[room.nodes == node] += 1
    for i in order:
        allowed = _allowed(room, bundles[i], masks[i])
        if not allowed.any():
            return None
        # As few bundles of the group as possible; among those, the node with the most room.
        at = int(np.where(allowed, held + (1.0 - room.share(bundles[i])) / 2, np.inf).argmin())
        held[at] += 1
        room.take(at, bundles[i])
        rows[i] = at
    return rows


def _match(
    room: _Room,
    bundles: Sequence[Mapping[str, int]],
    masks: Sequence[Mask | None],
    order: Sequence[int],
    taken: Sequence[int],
) -> list[int] | None:
    """Each on a node of its own: a bipartite matching by augmenting paths, nodes with most room first."""
    free = ~np.isin(room.nodes, list(taken))
    options: dict[int, list[int]] = {}
    for i in order:
        allowed = _allowed(room, bundles[i], masks[i]) & free
        ranked = np.argsort(-room.share(bundles[i]), kind="stable")
        options[i] = [int(at) for at in ranked if allowed[at]]
    holder: dict[int, int] = {}
    for start in order:
        # A breadth-first search for a node that is free, or whose bundle can move on.
        came: dict[int, int] = {}
        queue, end = [start], -1
        for i in queue:
            for at in options[i]:
                if at in came:
                    continue
                came[at] = i
                if at not in holder:
                    end = at
                    break
                queue.append(holder[at])
            if end >= 0:
                break
        if end < 0:
            return None
        previous = {i: at for at, i in holder.items()}
        while True:
            i = came[end]
            holder[end] = i
            if i == start:
                break
            end = previous[i]
    placed = {i: at for at, i in holder.items()}
    return [placed[i] for i in range(len(bundles))]


def why_no_group(
    snapshot: Snapshot, bundles: Sequence[Mapping[str, int]], strategy: str, selectors: Sequence[Any] = ()
) -> str:
    """What would be needed, where the nodes that exist could not hold the group even if they were empty."""
    empty = snapshot.emptied()
    if place_bundles(empty, bundles, strategy, selectors) is not None:
        return ""
    for i, bundle in enumerate(bundles):
        selector = selectors[i] if selectors else None
        if place_bundles(empty, [bundle], "PACK", [selector] if selector else ()) is None:
            where = f" with labels {show_selector(selector)}" if selector else ""
            return f"bundle {i} needs one node{where} with {{{show(bundle)}}}, and no node has that"
    together: dict[str, int] = {}
    for bundle in bundles:
        for name, units in bundle.items():
            together[name] = together.get(name, 0) + units
    size = len(snapshot.nodes)
    if strategy == "STRICT_PACK":
        return f"STRICT_PACK needs one node with {{{show(together)}}}, and no node has that"
    if strategy == "STRICT_SPREAD":
        return f"STRICT_SPREAD needs a node for each of {len(bundles)} bundles, and only {size} nodes can be used so"
    return f"its {len(bundles)} bundles need {{{show(together)}}} together, more than the {size} nodes have"
