"""Bundles on nodes: what is left while a plan is made, and plans over nodes that know of no domains wider than one.

Equal bundles are one *kind*, and a plan says how many of each kind a node gets. So its cost grows with the kinds and
not with the bundles. Kinds are placed one after the other, the hardest first. PACK takes what is begun first, then the
largest; an exact packing was rejected (its cost has no bound). STRICT_SPREAD is a matching and exact: it finds a place
whenever there is one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc.core.pieces import UNIT, fit
from hpc.core.policy.device_columns import DeviceColumns
from hpc.core.policy.placement import Column, Snapshot

Mask = npt.NDArray[np.bool_]
#: How many of each kind the node in each place gets.
Counts = list[Column]
#: More than a node can hold of anything.
PLENTY = 1 << 30


@dataclass
class BundleKind:
    """Equal bundles: amounts and the rows that their labels allow (None: all), and how many there are of them."""

    amounts: Mapping[str, int]
    mask: Mask | None
    count: int
    bundles: list[int]


class Room:
    """What is left on some nodes while a plan is made. ``rows`` are their rows in the snapshot, in the order of the
    tree; all else is by place in that. ``held`` counts the group's bundles on each."""

    def __init__(
        self,
        rows: Column,
        totals: dict[str, Column],
        free: dict[str, Column],
        devices: dict[str, DeviceColumns],
        held: Column,
    ) -> None:
        self.rows = rows
        self.devices = devices
        self.size = len(rows)
        self.totals = totals
        self.free = free
        self.held = held

    @classmethod
    def of(cls, snapshot: Snapshot, names: Collection[str], usable: Mask, taken: Sequence[int]) -> Room:
        """The usable rows of a snapshot. taken: nodes with bundles of the group, one by one."""
        rows = snapshot.along()
        rows = rows[usable[rows]]
        zero = np.zeros(len(snapshot.nodes), dtype=np.int64)
        held = zero.copy()
        for node in taken:
            at = snapshot.row(node)
            if at >= 0:
                held[at] += 1
        return cls(
            rows,
            {name: snapshot.totals.get(name, zero)[rows] for name in names},
            {name: snapshot.free.get(name, zero)[rows] for name in names},
            {name: devices.rows(rows) for name, devices in snapshot.devices.items() if name in names},
            held[rows],
        )

    def within(self, places: Any) -> Room:
        """These places alone, as a room of its own: what is taken there is not taken here."""
        return Room(
            self.rows[places],
            {name: column[places] for name, column in self.totals.items()},
            {name: column[places] for name, column in self.free.items()},
            {name: devices.rows(places) for name, devices in self.devices.items()},
            self.held[places],
        )

    def copy(self) -> Room:
        """For an attempt that may fail."""
        free = {name: column.copy() for name, column in self.free.items()}
        devices = {name: each.copy() for name, each in self.devices.items()}
        return Room(self.rows, self.totals, free, devices, self.held.copy())

    def fits(self, kind: BundleKind) -> Mask:
        """The places where one has room."""
        mask = np.ones(self.size, dtype=bool) if kind.mask is None else kind.mask[self.rows]
        for name, units in kind.amounts.items():
            if units:
                mask &= self.free[name] >= units
                if name in self.devices:
                    mask &= self.devices[name].has(units)
        return mask

    def capacity(self, kind: BundleKind) -> Column:
        """How many have room in each place."""
        count = np.full(self.size, PLENTY, dtype=np.int64)
        for name, units in kind.amounts.items():
            if units:
                np.minimum(count, self.free[name] // units, out=count)
                if name in self.devices:
                    np.minimum(count, self.devices[name].times(units), out=count)
        np.maximum(count, 0, out=count)
        if kind.mask is not None:
            count *= kind.mask[self.rows]
        return count

    def holds(self, at: int, kinds: Sequence[BundleKind]) -> bool:
        """Whether the devices in a place have room for all of these, where its amounts and its whole devices do."""
        for name, devices in self.devices.items():
            wanted = [(kind.amounts.get(name, 0), kind.count) for kind in kinds]
            split = any(units % UNIT for units, _ in wanted)
            if split and not fit(devices.row(at), [units for units, count in wanted for _ in range(count)]):
                return False
        return True

    def share(self, amounts: Mapping[str, int]) -> npt.NDArray[np.float64]:
        """The part of each node's own resources that is free, of the one in ``amounts`` that is scarcest there."""
        share = np.ones(self.size)
        for name, units in amounts.items():
            if units:
                np.minimum(share, self.free[name] / np.maximum(self.totals[name], 1), out=share)
        return share

    def take(self, kind: BundleKind, counts: Column) -> None:
        """Put bundles of a kind there."""
        for name, units in kind.amounts.items():
            if units:
                self.free[name] -= units * counts
                if name in self.devices:
                    self.devices[name].take_each(counts, units)
        self.held += counts


def on_nodes(room: Room, kinds: Sequence[BundleKind], strategy: str, *, bound: bool = False) -> Counts | None:
    """A plan over the nodes of a room, which is changed. bound: the group has bundles somewhere else already."""
    if strategy == "STRICT_PACK":
        return _one_node(room, kinds, bound)
    if strategy == "STRICT_SPREAD":
        return match(room, kinds)
    if strategy == "PACK":
        one = _one_node(room, kinds, bound)
        if one is not None:
            return one
    counts = []
    nowhere = np.zeros(room.size, dtype=np.int64)
    for kind in kinds:
        each = dealt(room, kind, nowhere, np.array([kind.count], dtype=np.int64), strategy)
        if int(each.sum()) < kind.count:
            return None
        room.take(kind, each)
        counts.append(each)
    return counts


def _one_node(room: Room, kinds: Sequence[BundleKind], bound: bool) -> Counts | None:
    """All on one node: where others of the group are, else the one that is left fullest."""
    sums: dict[str, int] = {}
    possible = np.ones(room.size, dtype=bool)
    for kind in kinds:
        for name, units in kind.amounts.items():
            sums[name] = sums.get(name, 0) + units * kind.count
        if kind.mask is not None:
            possible &= kind.mask[room.rows]
    if bound:
        possible &= room.held > 0
    for name, units in sums.items():
        if units:
            possible &= room.free[name] >= units
        if name in room.devices:
            whole = sum(kind.count * (kind.amounts.get(name, 0) // UNIT) for kind in kinds)
            possible &= room.devices[name].whole >= whole
    share = np.where(possible, room.share(sums), np.inf)
    while np.isfinite(share).any():
        at = int(share.argmin())
        if room.holds(at, kinds):
            break
        share[at] = np.inf
    else:
        return None
    counts = []
    for kind in kinds:
        each = np.zeros(room.size, dtype=np.int64)
        each[at] = kind.count
        room.take(kind, each)
        counts.append(each)
    return counts


def dealt(room: Room, kind: BundleKind, codes: Column, wanted: Column, strategy: str) -> Column:
    """How many of a kind each node gets, so that each domain gets ``wanted`` (or what it has room for)."""
    most = room.capacity(kind)
    if strategy == "SPREAD":
        return level_out(room.held, np.minimum(most, kind.count), codes, wanted, -room.share(kind.amounts))
    if strategy == "STRICT_SPREAD":
        return filled(np.minimum(most, 1) * (room.held == 0), codes, wanted, -room.share(kind.amounts))
    begun = room.held > 0
    # What is begun, the fullest first; then nodes that hold as many as possible.
    if begun.any():
        each = filled(most * begun, codes, wanted, room.share(kind.amounts))
        left = wanted - np.bincount(codes, each, len(wanted)).astype(np.int64)
        if not left.any():
            return each
        return each + _largest_first(most * ~begun, codes, left)
    return _largest_first(most, codes, wanted)


def _largest_first(most: Column, codes: Column, wanted: Column) -> Column:
    each = filled(most, codes, wanted, -most)
    partly = np.flatnonzero((each > 0) & (each < most))
    if len(partly) == 1 and len(wanted) == 1:
        # The rest goes to the smallest node that holds it: the first such in the order of the tree.
        at = int(partly[0])
        rest = int(each[at])
        others = np.where((each == 0) & (most >= rest), most, PLENTY)
        others[at] = most[at]
        if (best := int(others.argmin())) != at and others[best] < most[at]:
            each[at], each[best] = 0, rest
    return each


def filled(most: Column, codes: Column, wanted: Column, keys: npt.NDArray[Any]) -> Column:
    """Domains are filled node by node, the lowest key first, with what each domain wants."""
    places = np.flatnonzero(most)
    each = np.zeros(len(most), dtype=np.int64)
    if not len(places):
        return each
    if len(wanted) == 1:
        order = places[np.argsort(keys[places], kind="stable")]
        amounts = most[order]
        before = np.cumsum(amounts) - amounts
        each[order] = np.clip(wanted[0] - before, 0, amounts)
        return each
    order = places[np.lexsort((keys[places], codes[places]))]
    domain, amounts = codes[order], most[order]
    before = np.cumsum(amounts) - amounts
    first = np.flatnonzero(np.diff(domain, prepend=-1))
    start = np.repeat(before[first], np.diff(np.append(first, len(order))))
    each[order] = np.clip(wanted[domain] - (before - start), 0, amounts)
    return each


def level_out(held: Column, most: Column, codes: Column, wanted: Column, keys: npt.NDArray[Any]) -> Column:
    """Each domain's bundles over its nodes so that all have as nearly as possible the same number, with those that they
    hold. Among equals the lowest key comes first."""
    size = len(wanted)
    room = np.bincount(codes, most, size).astype(np.int64)
    wanted = np.minimum(wanted, room)
    low = np.zeros(size, dtype=np.int64)
    high = np.full(size, int((held + most).max(initial=0)), dtype=np.int64)
    # The highest whole level to which all nodes of a domain can be filled; the rest goes one by one.
    while (low < high).any():
        middle = (low + high + 1) // 2
        need = np.bincount(codes, np.clip(middle[codes] - held, 0, most), size)
        enough = need <= wanted
        low, high = np.where(enough, middle, low), np.where(enough, high, middle - 1)
    each = np.clip(low[codes] - held, 0, most)
    left = wanted - np.bincount(codes, each, size).astype(np.int64)
    more = (each < most) & (held + each == low[codes])
    return each + filled(more.astype(np.int64), codes, left, keys)


def match(
    room: Room, kinds: Sequence[BundleKind], codes: Column | None = None, closed: Column | None = None
) -> Counts | None:
    """Each bundle on a node of its own, or in a domain of its own where ``codes`` say the domain of each node. It is a
    bipartite matching of kinds and nodes by augmenting paths. closed: domains that have a bundle already."""
    fitting = [room.fits(kind) for kind in kinds]
    if codes is None:
        codes = np.arange(room.size, dtype=np.int64)
        options = fitting
        holder = np.where(room.held > 0, -2, -1)
    else:
        size = int(codes.max(initial=-1)) + 1
        options = [np.bincount(codes[mask], minlength=size) > 0 for mask in fitting]
        holder = np.full(size, -1)
        holder[codes[room.held > 0]] = -2
        if closed is not None:
            holder[closed] = -2
    for at in sorted(range(len(kinds)), key=lambda k: int(options[k].sum()) - kinds[k].count):
        if not _match_kind(at, kinds[at], room, options, holder, codes):
            return None
    counts = [np.zeros(room.size, dtype=np.int64) for _ in kinds]
    if len(holder) == room.size and (codes == np.arange(room.size)).all():
        for at, each in enumerate(counts):
            each[holder == at] = 1
    else:
        for domain in np.flatnonzero(holder >= 0).tolist():
            at = int(holder[domain])
            inside = np.flatnonzero((codes == domain) & fitting[at])
            best = inside[int(room.share(kinds[at].amounts)[inside].argmax())]
            counts[at][best] = 1
    for kind, each in zip(kinds, counts):
        room.take(kind, each)
    return counts


def _match_kind(at: int, kind: BundleKind, room: Room, options: list[Mask], holder: Column, codes: Column) -> bool:
    """Places for all bundles of a kind, those with most room first."""
    open_now = np.flatnonzero(options[at] & (holder == -1))
    if kind.count < len(open_now):
        share = room.share(kind.amounts)
        if len(holder) != room.size:
            best = np.zeros(len(holder))
            np.maximum.at(best, codes, share)
            share = best
        share = share[open_now]
        if kind.count == 1:
            open_now = open_now[int(share.argmax()) :][:1]
        else:
            open_now = open_now[np.argsort(-share, kind="stable")[: kind.count]]
    holder[open_now] = at
    return all(_augment(at, options, holder) for _ in range(kind.count - len(open_now)))


def _augment(start: int, options: list[Mask], holder: Column) -> bool:
    """One more place for a kind: a free one, or one whose bundle can move on. Breadth first, kind by kind."""
    came: dict[int, tuple[int, int]] = {start: (-1, -1)}
    queue = [start]
    for kind in queue:
        free = options[kind] & (holder == -1)
        if free.any():
            at = int(free.argmax())
            while at >= 0:
                holder[at] = kind
                kind, at = came[kind]
            return True
        others = np.flatnonzero(options[kind] & (holder >= 0))
        for other, first in zip(*(found.tolist() for found in np.unique(holder[others], return_index=True))):
            if other not in came:
                came[other] = (kind, int(others[first]))
                queue.append(other)
    return False
