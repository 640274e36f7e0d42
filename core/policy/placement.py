"""Which node: pure functions over a snapshot of the cluster, one numpy column per resource.

A plan is a list of (node, how many). The node verifies it and may refuse, so a snapshot that is a little old does no
harm. Why something was not placed comes from the same columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc.core.policy.labels import matches, show_selector
from hpc.core.resources import show

Column = npt.NDArray[np.int64]


@dataclass
class Snapshot:
    """The nodes that take work, as columns: ``free[resource][i]`` belongs to ``nodes[i]``."""

    nodes: Column
    totals: dict[str, Column]
    free: dict[str, Column]
    labels: dict[int, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rows: Iterable[tuple[int, Mapping[str, int], Mapping[str, int]]],
        labels: Mapping[int, Mapping[str, str]] | None = None,
    ) -> Snapshot:
        """From (node, totals, free) rows, and the labels of the nodes that have any."""
        table = list(rows)
        names = sorted({name for _, totals, _ in table for name in totals})
        return cls(
            np.array([node for node, _, _ in table], dtype=np.int64),
            {n: np.array([t.get(n, 0) for _, t, _ in table], dtype=np.int64) for n in names},
            {n: np.array([f.get(n, 0) for _, _, f in table], dtype=np.int64) for n in names},
            dict(labels or {}),
        )

    def where(self, selector: Any) -> npt.NDArray[np.bool_]:
        """The nodes whose labels match."""
        return np.array([matches(self.labels.get(int(n), {}), selector) for n in self.nodes], dtype=bool)

    def take(self, node: int, amounts: Mapping[str, int]) -> None:
        """What a plan uses is not free any more."""
        at = int((self.nodes == node).argmax())
        for name, units in amounts.items():
            if units and name in self.free:
                self.free[name][at] -= units


def capacity(columns: Mapping[str, Column], size: int, wanted: Mapping[str, int], limit: int) -> Column:
    """How many times ``wanted`` fits on each node, at most ``limit``."""
    room = np.full(size, limit, dtype=np.int64)
    for name, units in wanted.items():
        if units:
            column = columns.get(name)
            if column is None:
                return np.zeros(size, dtype=np.int64)
            np.minimum(room, np.maximum(column, 0) // units, out=room)
    return room


def kind_of(strategy: Any) -> str:
    """The strategy's kind: "DEFAULT", "SPREAD", "node", "near", "where" or "pg"."""
    return str(strategy[0]) if isinstance(strategy, (list, tuple)) and strategy else str(strategy)


def place(
    snapshot: Snapshot, wanted: Mapping[str, int], count: int, strategy: Any = "DEFAULT", after: int = 0
) -> list[tuple[int, int]]:
    """A plan for up to ``count`` leases.

    DEFAULT fills nodes one after the other, those with most room first; SPREAD deals them out one by one, beginning
    with the node that has most room (among equals the one next to ``after``); ("node", n, soft) takes node n, and
    others only if soft and n is gone or could never serve; ("near", n) takes node n as far as it has room; ("where",
    base, selectors) takes nodes that match the first selector, as far as they have room, then the second...
    """
    return _place(snapshot, capacity(snapshot.free, len(snapshot.nodes), wanted, count), wanted, count, strategy, after)


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
    for at in np.argsort(-room, kind="stable"):
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
    turn = (snapshot.nodes <= after, snapshot.nodes)
    order = [int(i) for i in np.lexsort((turn[1], turn[0], -share)) if room[i] > 0]
    taken = dict.fromkeys(order, 0)
    while count and order:
        for at in list(order):
            if not count:
                break
            taken[at] += 1
            count -= 1
            if taken[at] >= room[at]:
                order.remove(at)
    return [(int(snapshot.nodes[at]), n) for at, n in taken.items() if n]


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
