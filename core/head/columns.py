"""What is free on all nodes as columns that are kept, not made anew: a change costs the rows that it concerns.

A change of a node is said by the node's number (``stale``). Before the columns are looked at its row is written anew
from the node itself, so that the two cannot drift apart. Rejected: writing each change into the columns. A plan that
fails half way, or a ticket that is said to be spent twice, would make them wrong for good. Rejected too: columns made
for each plan. With 10,000 nodes they take 18 ms, in each turn in which a demand waits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hpc.core.accelerators.base import INSTANCE_RESOURCES
from hpc.core.head.nodes import Node
from hpc.core.pieces import has_grown, less, of_amount
from hpc.core.policy.device_columns import DeviceColumns
from hpc.core.policy.placement import Column, Snapshot
from hpc.core.wire import NodeInfo


class Columns(Snapshot):
    """The nodes that take work. ``changed``: others than before; ``grown``: nodes that have more free than before. A
    caller that has looked at the demands that wait takes note of both by `seen`."""

    def __init__(self, nodes: dict[int, Node], stale: dict[int, None]) -> None:
        super().__init__(np.zeros(0, dtype=np.int64), {}, {}, {})
        self.changed = True
        self.grown: dict[int, None] = {}
        self._table = nodes
        self._stale = stale
        self._infos: dict[int, NodeInfo] = {}
        #: How many nodes have a resource.
        self._having: dict[str, int] = {}
        stale.update(dict.fromkeys(nodes))

    def take(self, node: int, amounts: Mapping[str, int]) -> None:
        """As in a snapshot. A ticket for the same amounts follows; where none does the row is right again anyway."""
        super().take(node, amounts)
        self._stale[node] = None

    def seen(self) -> None:
        """From here on only what changes later counts."""
        self.changed = False
        self.grown.clear()

    def grown_rows(self) -> Column:
        """The rows of nodes that have more free than before."""
        return np.array([at for at in map(self.row, self.grown) if at >= 0], dtype=np.int64)

    def refresh(self) -> None:
        """Write the rows of nodes that have changed."""
        if not self._stale:
            return
        come, gone, stay = [], [], []
        for number in self._stale:
            node, info = self._table.get(number), self._infos.get(number)
            takes = node is not None and node.takes_work
            if info is not None and node is not None and takes and node.info is info:
                stay.append(number)
                continue
            if info is not None:
                gone.append(number)
            if takes:
                come.append(number)
        self._stale.clear()
        if gone:
            self._remove(gone)
        if come:
            stay = self._insert(sorted(come)) or stay + come
        if gone or come:
            self.changed = True
            self.forget_labels()
        self._write(stay)

    def _remove(self, gone: list[int]) -> None:
        keep = ~np.isin(self.nodes, gone)
        self.nodes = self.nodes[keep]
        for number in gone:
            del self.labels[number]
            self.grown.pop(number, None)
            for name in self._infos.pop(number).totals:
                self._having[name] -= 1
        for name in [name for name, count in self._having.items() if not count]:
            del self.totals[name], self.free[name], self._having[name]
            self.devices.pop(name, None)
        self.devices = {name: devices.rows(keep) for name, devices in self.devices.items()}
        for columns in (self.totals, self.free):
            for name, column in columns.items():
                columns[name] = column[keep]

    def _insert(self, come: list[int]) -> list[int]:
        """Rows for these nodes; all nodes, if there is a resource that there was not before."""
        at = self.nodes.searchsorted(come)
        self.nodes = np.insert(self.nodes, at, come)
        for columns in (self.totals, self.free):
            for name, column in columns.items():
                columns[name] = np.insert(column, at, 0)
        for devices in self.devices.values():
            devices.insert(at)
        before = len(self._having)
        for number, row in zip(come, self.nodes.searchsorted(come).tolist()):
            info = self._infos[number] = self._table[number].info
            self.labels[number] = info.labels
            for name, units in info.totals.items():
                if name not in self._having:
                    self.totals[name] = np.zeros(len(self.nodes), dtype=np.int64)
                    self.free[name] = np.zeros(len(self.nodes), dtype=np.int64)
                    if name in INSTANCE_RESOURCES:
                        self.devices[name] = DeviceColumns.of([[]] * len(self.nodes))
                self._having[name] = self._having.get(name, 0) + 1
                self.totals[name][row] = units
        return list(self._infos) if len(self._having) > before else []

    def _write(self, numbers: list[int]) -> None:
        numbers = list(numbers)
        rows = [self.row(numbers[0])] if len(numbers) == 1 else self.nodes.searchsorted(numbers).tolist()
        for number, at in zip(numbers, rows):
            node = self._table[number]
            free, promised = node.free, node.promised
            for name, column in self.free.items():
                units = free.get(name, 0) - promised.get(name, 0)
                before = column.item(at)
                if units != before:
                    column[at] = units
                    if units > before:
                        self.grown[number] = None
            for name, devices in self.devices.items():
                before_on_devices = devices.row(at)
                left = pieces_left(node, name)
                if left != before_on_devices:
                    devices.write(at, left)
                    if has_grown(before_on_devices, left):
                        self.grown[number] = None


def pieces_left(node: Node, name: str) -> list[int]:
    """What is free on the devices of a node, less what was promised. Before its first report they are whole."""
    there = node.pieces.get(name)
    return less(of_amount(node.free.get(name, 0)) if there is None else there, node.promised.get(name, 0))


def rebuilt(nodes: Mapping[int, Node]) -> Snapshot:
    """What the columns must be, made anew: for tests and the simulator."""
    rows, pieces = [], {}
    for number, node in nodes.items():
        if node.takes_work:
            pieces[number] = {name: pieces_left(node, name) for name in INSTANCE_RESOURCES}
            free = dict(node.free)
            for amounts in node.tickets.values():
                for name, units in amounts.items():
                    free[name] = free.get(name, 0) - units
            rows.append((number, node.info.totals, free))
    return Snapshot.of(rows, {number: nodes[number].info.labels for number, _, _ in rows}, pieces)


def difference(view: Snapshot, other: Snapshot) -> str:
    """How two snapshots differ; empty if they do not."""
    if view.nodes.tolist() != other.nodes.tolist() or view.labels != other.labels:
        return f"nodes {view.nodes.tolist()} {view.labels}, not {other.nodes.tolist()} {other.labels}"
    for what, mine, others in (("totals", view.totals, other.totals), ("free", view.free, other.free)):
        if mine.keys() != others.keys():
            return f"{what} of {sorted(mine)}, not {sorted(others)}"
        for name, column in mine.items():
            if column.tolist() != others[name].tolist():
                return f"{what} of {name}: {column.tolist()}, not {others[name].tolist()}"
    for name, devices in view.devices.items():
        for at, number in enumerate(view.nodes.tolist()):
            if devices.row(at) != other.devices[name].row(at):
                return f"devices of {name} on {number}: {devices.row(at)}, not {other.devices[name].row(at)}"
    return ""
