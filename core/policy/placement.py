"""Which node: pure functions over a snapshot of the cluster, one numpy column per resource.

A plan is a list of (node, how many). The node verifies it and may refuse, so a snapshot that is a little old does no
harm. Why something was not placed comes from the same columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hpc.core.resources import show

Column = npt.NDArray[np.int64]


@dataclass
class Snapshot:
    """The nodes that take work, as columns: ``free[resource][i]`` belongs to ``nodes[i]``."""

    nodes: Column
    totals: dict[str, Column]
    free: dict[str, Column]

    @classmethod
    def of(cls, rows: Iterable[tuple[int, Mapping[str, int], Mapping[str, int]]]) -> Snapshot:
        """From (node, totals, free) rows."""
        table = list(rows)
        names = sorted({name for _, totals, _ in table for name in totals})
        return cls(
            np.array([node for node, _, _ in table], dtype=np.int64),
            {n: np.array([t.get(n, 0) for _, t, _ in table], dtype=np.int64) for n in names},
            {n: np.array([f.get(n, 0) for _, _, f in table], dtype=np.int64) for n in names},
        )


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


def place(
    snapshot: Snapshot, wanted: Mapping[str, int], count: int, strategy: Any = "DEFAULT"
) -> list[tuple[int, int]]:
    """A plan for up to ``count`` leases.

    DEFAULT fills nodes one after the other, those with most room first; SPREAD deals them out one by one, beginning
    with the node that has most room; ("node", n, soft) takes node n, and others only if soft.
    """
    size = len(snapshot.nodes)
    room = capacity(snapshot.free, size, wanted, count)
    if isinstance(strategy, (list, tuple)) and strategy and strategy[0] == "node":
        here = room * (snapshot.nodes == strategy[1])
        plan = _fill(snapshot.nodes, here, count)
        left = count - sum(n for _, n in plan)
        if left and strategy[2] and not plan:
            plan = _fill(snapshot.nodes, room, left)
        return plan
    if strategy == "SPREAD":
        return _deal(snapshot, room, wanted, count)
    return _fill(snapshot.nodes, room, count)


def _fill(nodes: Column, room: Column, count: int) -> list[tuple[int, int]]:
    plan: list[tuple[int, int]] = []
    for at in np.argsort(-room, kind="stable"):
        take = min(int(room[at]), count)
        if take <= 0:
            break
        plan.append((int(nodes[at]), take))
        count -= take
    return plan


def _deal(snapshot: Snapshot, room: Column, wanted: Mapping[str, int], count: int) -> list[tuple[int, int]]:
    """One to each node in turn. Nodes with the largest share of what is wanted still free come first."""
    share = np.ones(len(room))
    for name, units in wanted.items():
        if units and name in snapshot.totals:
            share = np.minimum(share, snapshot.free[name] / np.maximum(snapshot.totals[name], 1))
    order = [int(i) for i in np.argsort(-share, kind="stable") if room[i] > 0]
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
    if isinstance(strategy, (list, tuple)) and strategy and strategy[0] == "node" and not strategy[2]:
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
