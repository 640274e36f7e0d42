"""What is free on the devices of all nodes: for one resource, a row of pieces per node.

Most requests are for whole devices, of which each node has a number; that is a column like any other. The pieces
themselves are looked at for fractions only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hpc.core.pieces import UNIT, less

Column = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class DeviceColumns:
    """``pieces[i]`` are those of the node in row i, the largest first and then zeros; ``whole[i]`` counts the devices
    that are free as a whole."""

    def __init__(self, pieces: Column, whole: Column) -> None:
        self.pieces = pieces
        self.whole = whole

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> DeviceColumns:
        """From the pieces of each node."""
        made = cls(np.zeros((len(rows), 1), dtype=np.int64), np.zeros(len(rows), dtype=np.int64))
        for at, row in enumerate(rows):
            made.write(at, row)
        return made

    @classmethod
    def of_totals(cls, totals: Column) -> DeviceColumns:
        """Of nodes that nobody uses."""
        left = totals[:, None] - UNIT * np.arange(max(1, -(-int(totals.max(initial=0)) // UNIT)))
        return cls(left.clip(0, UNIT), totals // UNIT)

    def copy(self) -> DeviceColumns:
        """One that can be changed while this stays."""
        return DeviceColumns(self.pieces.copy(), self.whole.copy())

    def rows(self, which: Column | Mask) -> DeviceColumns:
        """These rows alone."""
        return DeviceColumns(self.pieces[which], self.whole[which])

    def insert(self, at: Column) -> None:
        """Rows of nothing ahead of these."""
        self.pieces = np.insert(self.pieces, at, 0, axis=0)
        self.whole = np.insert(self.whole, at, 0)

    def row(self, at: int) -> list[int]:
        """The pieces of one node."""
        return [piece for piece in self.pieces[at].tolist() if piece]

    def write(self, at: int, row: Sequence[int]) -> None:
        """One node has these pieces, the largest first."""
        width = self.pieces.shape[1]
        if len(row) > width:
            self.pieces = np.pad(self.pieces, ((0, 0), (0, len(row) - width)))
        self.pieces[at] = 0
        self.pieces[at, : len(row)] = row
        self.whole[at] = sum(1 for piece in row if piece == UNIT)

    def take(self, at: int, units: int) -> None:
        """An amount of one node is not free any more."""
        self.write(at, less(self.row(at), units))

    def take_each(self, counts: Column, units: int) -> None:
        """An amount is taken so many times from each node."""
        rows = np.flatnonzero(counts)
        if units >= UNIT and not units % UNIT:
            many = counts[rows] * (units // UNIT)
            width = self.pieces.shape[1]
            columns = np.arange(width) + many[:, None]
            there = columns < width
            self.pieces[rows] = np.take_along_axis(self.pieces[rows], np.where(there, columns, 0), 1) * there
            self.whole[rows] -= many
            return
        for at in rows.tolist():
            left = self.row(at)
            for _ in range(int(counts[at])):
                left = less(left, units)
            self.write(at, left)

    def has(self, units: int) -> Mask:
        """The nodes on which an amount has room."""
        mask: Mask = self.pieces[:, 0] >= units if units < UNIT else self.whole >= units // UNIT
        return mask

    def times(self, units: int) -> Column:
        """How many times an amount has room on each node."""
        count: Column = (self.pieces // units).sum(axis=1) if units < UNIT else self.whole // (units // UNIT)
        return count
