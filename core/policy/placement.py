"""Which node: pure functions over a snapshot of the cluster, one numpy column per resource.

A plan is a list of (node, how many). The node verifies it and may refuse, so a snapshot that is a little old does no
harm. Why something was not placed comes from the same columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc.core.accelerators.base import INSTANCE_RESOURCES
from hpc.core.pieces import Pieces, of_amount
from hpc.core.policy.device_columns import DeviceColumns
from hpc.core.policy.labels import matches, show_selector
from hpc.core.policy.topology import Level, along, level_of, tree_of
from hpc.core.resources import show

Column = npt.NDArray[np.int64]
#: Above this sums of units are not safe in a column.
MAX_UNITS = 1 << 62
#: Selectors of which a snapshot remembers the nodes that match.
MAX_MASKS = 100
NO_LABELS: Mapping[str, str] = {}


@dataclass
class Topology:
    """What a snapshot remembers of where its nodes are."""

    levels: dict[str, Level] = field(default_factory=dict)
    tree: list[Level] | None = None
    order: Column | None = None


@dataclass
class Snapshot:
    """The nodes that take work, as columns: ``free[resource][i]`` belongs to ``nodes[i]``, and those are in order.
    ``devices[resource]`` has what is free on each device, of resources that have any."""

    nodes: Column
    totals: dict[str, Column]
    free: dict[str, Column]
    labels: dict[int, Mapping[str, str]] = field(default_factory=dict)
    devices: dict[str, DeviceColumns] = field(default_factory=dict)
    _masks: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    _topology: Topology = field(default_factory=Topology)

    @classmethod
    def of(
        cls,
        rows: Iterable[tuple[int, Mapping[str, int], Mapping[str, int]]],
        labels: Mapping[int, Mapping[str, str]] | None = None,
        pieces: Mapping[int, Pieces] | None = None,
    ) -> Snapshot:
        """From (node, totals, free) rows, the labels of the nodes that have any, and what is free on their devices.
        Where that is not said the devices are whole."""
        table = sorted(rows, key=lambda row: row[0])
        names = sorted({name for _, totals, _ in table for name in totals})
        said = pieces or {}
        return cls(
            np.array([node for node, _, _ in table], dtype=np.int64),
            {n: np.array([t.get(n, 0) for _, t, _ in table], dtype=np.int64) for n in names},
            {n: np.array([f.get(n, 0) for _, _, f in table], dtype=np.int64) for n in names},
            dict(labels or {}),
            {
                n: DeviceColumns.of([said.get(node, {}).get(n, of_amount(f.get(n, 0))) for node, _, f in table])
                for n in names
                if n in INSTANCE_RESOURCES
            },
        )

    def emptied(self) -> Snapshot:
        """The same nodes as if nobody used them. Not to be changed but by `take`."""
        devices = {name: DeviceColumns.of_totals(self.totals[name]) for name in self.devices}
        free = {name: column.copy() for name, column in self.totals.items()}
        return Snapshot(self.nodes, self.totals, free, self.labels, devices, self._masks, self._topology)

    def without(self, numbers: Collection[int]) -> Snapshot:
        """The other nodes."""
        which = ~np.isin(self.nodes, list(numbers))
        nodes = self.nodes[which]
        return Snapshot(
            nodes,
            {name: column[which] for name, column in self.totals.items()},
            {name: column[which] for name, column in self.free.items()},
            {number: self.labels[number] for number in nodes.tolist() if number in self.labels},
            {name: devices.rows(which) for name, devices in self.devices.items()},
        )

    def where(self, selector: Any) -> npt.NDArray[np.bool_]:
        """The nodes whose labels match. Not to be changed: it is kept for the next who asks."""
        key = repr(selector)
        mask = self._masks.get(key)
        if mask is None:
            mask = np.array([matches(self.labels.get(int(n), {}), selector) for n in self.nodes], dtype=bool)
            if len(self._masks) >= MAX_MASKS:
                self._masks.clear()
            self._masks[key] = mask
        return mask

    def level(self, key: str) -> Level:
        """The domains of a label. Not to be changed: it is kept for the next who asks."""
        level = self._topology.levels.get(key)
        if level is None:
            if len(self._topology.levels) >= MAX_MASKS:
                self._topology.levels.clear()
            level = self._topology.levels[key] = level_of(key, self._rows_of_labels())
        return level

    def tree(self) -> list[Level]:
        """The levels of the tree of nodes, from the top down."""
        if self._topology.tree is None:
            self._topology.tree = tree_of(self._rows_of_labels())
        return self._topology.tree

    def along(self) -> Column:
        """The rows in the order of the tree."""
        if self._topology.order is None:
            self._topology.order = along(self.tree(), len(self.nodes))
        return self._topology.order

    def _rows_of_labels(self) -> list[Mapping[str, str]]:
        return [self.labels.get(node, NO_LABELS) for node in self.nodes.tolist()]

    def forget_labels(self) -> None:
        """Other nodes than before, or others' labels."""
        self._masks.clear()
        self._topology = Topology()

    def row(self, node: int) -> int:
        """The row of a node; -1 where it has none."""
        at = int(self.nodes.searchsorted(node))
        return at if at < len(self.nodes) and self.nodes[at] == node else -1

    def take(self, node: int, amounts: Mapping[str, int]) -> None:
        """What a plan uses is not free any more."""
        at = self.row(node)
        for name, units in amounts.items():
            if units and name in self.free and at >= 0:
                self.free[name][at] -= units
                if name in self.devices:
                    self.devices[name].take(at, units)


def room_for(snapshot: Snapshot, wanted: Mapping[str, int], limit: int) -> Column:
    """How many times ``wanted`` has room on each node now, at most ``limit``."""
    room = capacity(snapshot.free, len(snapshot.nodes), wanted, limit)
    for name, devices in snapshot.devices.items():
        if wanted.get(name):
            np.minimum(room, devices.times(wanted[name]), out=room)
    return room


def capacity(columns: Mapping[str, Column], size: int, wanted: Mapping[str, int], limit: int) -> Column:
    """How many times ``wanted`` fits into the columns' amounts on each node, at most ``limit``."""
    room = np.full(size, limit, dtype=np.int64)
    for name, units in wanted.items():
        if units:
            column = columns.get(name)
            if column is None:
                return np.zeros(size, dtype=np.int64)
            np.minimum(room, np.maximum(column, 0) // units, out=room)
    return room


def has_room(snapshot: Snapshot, rows: Column, wanted: Mapping[str, int]) -> bool:
    """Whether any of these rows has room for one."""
    enough = np.ones(len(rows), dtype=bool)
    for name, units in wanted.items():
        if units:
            column = snapshot.free.get(name)
            if column is None:
                return False
            enough &= column[rows] >= units
            if name in snapshot.devices:
                enough &= snapshot.devices[name].rows(rows).has(units)
    return bool(enough.any())


def kind_of(strategy: Any) -> str:
    """The strategy's kind: "DEFAULT", "SPREAD", "node", "near", "where" or "pg"."""
    return str(strategy[0]) if isinstance(strategy, (list, tuple)) and strategy else str(strategy)


def place(
    snapshot: Snapshot, wanted: Mapping[str, int], count: int, strategy: Any = "DEFAULT", after: int = 0
) -> list[tuple[int, int]]:
    """A plan for up to ``count`` leases.

    DEFAULT fills nodes one after the other, those with most room first. SPREAD deals leases out one by one, beginning
    with the node that has most room (among equals the one next to ``after``). ("node", n, soft) takes node n, and
    others only if soft and n is gone or could never serve. ("near", n) takes node n as far as it has room. ("where",
    base, selectors) takes nodes that match the first selector, as far as they have room, then the second...
    """
    if kind_of(strategy) == "DEFAULT":
        # The first node that has room for all of them is what the whole search would find.
        at = _first_for_all(snapshot, wanted, count)
        if at >= 0:
            return [(int(snapshot.nodes[at]), count)]
    return _place(snapshot, room_for(snapshot, wanted, count), wanted, count, strategy, after)


def _first_for_all(snapshot: Snapshot, wanted: Mapping[str, int], count: int) -> int:
    """The first row with room for ``count``; -1 where there is none."""
    enough: npt.NDArray[np.bool_] | None = None
    for name, units in wanted.items():
        if not units:
            continue
        column = snapshot.free.get(name)
        if column is None or units * count > MAX_UNITS:
            return -1
        mask = column >= units * count
        if name in snapshot.devices:
            mask &= snapshot.devices[name].times(units) >= count
        enough = mask if enough is None else enough & mask
    if count <= 0 or not len(snapshot.nodes):
        return -1
    at = 0 if enough is None else int(enough.argmax())
    return at if enough is None or enough[at] else -1


def _place(
    snapshot: Snapshot, room: Column, wanted: Mapping[str, int], count: int, strategy: Any, after: int
) -> list[tuple[int, int]]:
    nodes, kind = snapshot.nodes, kind_of(strategy)
    if kind == "where":
        plan: list[tuple[int, int]] = []
        used = np.zeros(len(nodes), dtype=bool)
        for selector in strategy[2]:
            mask = snapshot.where(selector) & ~used
            used |= mask
            plan += _place(snapshot, room * mask, wanted, count - sum(n for _, n in plan), strategy[1], after)
        return plan
    if kind == "node":
        if strategy[2] and not (capacity(snapshot.totals, len(nodes), wanted, 1) * (nodes == strategy[1])).any():
            return _fill(nodes, room, count)
        return _fill(nodes, room * (nodes == strategy[1]), count)
    if kind == "near":
        plan = _fill(nodes, room * (nodes == strategy[1]), count)
        return plan + _fill(nodes, room * (nodes != strategy[1]), count - sum(n for _, n in plan))
    if kind == "SPREAD":
        return _deal(snapshot, room, wanted, count, after)
    return _fill(nodes, room, count)


def _fill(nodes: Column, room: Column, count: int) -> list[tuple[int, int]]:
    plan: list[tuple[int, int]] = []
    rows = np.flatnonzero(room > 0)
    for at in rows[np.argsort(-room[rows], kind="stable")]:
        take = min(int(room[at]), count)
        if take <= 0:
            break
        plan.append((int(nodes[at]), take))
        count -= take
    return plan


def _deal(snapshot: Snapshot, room: Column, wanted: Mapping[str, int], count: int, after: int) -> list[tuple[int, int]]:
    """One to each node in turn. Nodes with the largest share of what is wanted still free come first."""
    share = np.ones(len(room))
    for name, units in wanted.items():
        if units and name in snapshot.totals:
            share = np.minimum(share, snapshot.free[name] / np.maximum(snapshot.totals[name], 1))
    first = int(snapshot.nodes.searchsorted(after, side="right"))
    turn = np.concatenate((np.arange(first, len(room)), np.arange(first)))
    turn = turn[room[turn] > 0]
    if not len(turn) or count <= 0:
        return []
    if count == 1:
        return [(int(snapshot.nodes[turn[int(share[turn].argmax())]]), 1)]
    order = turn[np.argsort(-share[turn], kind="stable")]
    most = room[order]
    # The number of whole rounds that can be dealt; the rest goes to the first nodes that still have room.
    low, high = 0, int(most.max())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if int(np.minimum(most, middle).sum()) <= count else (low, middle - 1)
    dealt = np.minimum(most, low)
    more = np.flatnonzero(most > low)[: count - int(dealt.sum())]
    dealt[more] += 1
    given = np.flatnonzero(dealt)
    return list(zip(snapshot.nodes[order[given]].tolist(), dealt[given].tolist()))


def why_infeasible(snapshot: Snapshot, wanted: Mapping[str, int], strategy: Any = "DEFAULT") -> str:
    """Why no node that exists could ever serve the request, even empty; an empty string if one could."""
    size = len(snapshot.nodes)
    possible = capacity(snapshot.totals, size, wanted, 1) > 0
    if kind_of(strategy) == "where":
        mask = np.zeros(size, dtype=bool)
        for selector in strategy[2]:
            mask |= snapshot.where(selector)
        if not mask.any():
            meant = " or ".join(f"[{show_selector(s)}]" for s in strategy[2])
            return f"no node has the labels that were asked for: {meant}"
        if possible.any() and not (possible & mask).any():
            return f"no node with the labels that were asked for could ever provide {{{show(wanted)}}}"
        possible = possible & mask
        strategy = strategy[1]
    if kind_of(strategy) == "node" and not strategy[2]:
        if not (snapshot.nodes == strategy[1]).any():
            return f"node {strategy[1]}, which was asked for, is not part of the cluster"
        possible = possible & (snapshot.nodes == strategy[1])
    if size and possible.any():
        return ""
    best = {
        name: int(snapshot.totals[name].max()) if name in snapshot.totals and size else 0
        for name, units in wanted.items()
        if units
    }
    return (
        f"no node could ever provide {{{show(wanted)}}}; the most that a single node has of these is {_show_all(best)}"
    )


def _show_all(amounts: Mapping[str, int]) -> str:
    return "{" + ", ".join(f"{k}: {v / 10_000:g}" for k, v in sorted(amounts.items())) + "}"
