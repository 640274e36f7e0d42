"""The columns of a fragment while it is filled, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpc.rllib.env.fragment import WITH_LAST, Fragment
from hpc.rllib.utils.trees import blank, map_tree, put, take


class Recorder:
    """Arrays for rows to come: made by the first row of each column, and twice as long whenever they are full."""

    def __init__(self, capacity: int) -> None:
        self.capacity = max(capacity, 1)
        self.columns: dict[str, Any] = {}

    def put(self, name: str, row: int, value: Any) -> None:
        """Write one row of a column, ``[N, ...]`` perhaps nested."""
        store = self.columns.get(name)
        if store is None:
            if not isinstance(value, (np.ndarray, dict, tuple)):
                value = np.asarray(value)
            store = blank(value, (self.capacity + (name in WITH_LAST), *_lead(value)), skip=1)
            self.columns[name] = store
        if isinstance(store, np.ndarray):
            store[row] = value
        else:
            put(store, row, value)

    def row(self, name: str, row: int) -> Any:
        """One row of a column, as a view."""
        return take(self.columns[name], row)

    def room_for(self, row: int) -> None:
        """Make room for a row and the one after it."""
        if row < self.capacity:
            return
        self.capacity *= 2
        for name, store in self.columns.items():
            longer = blank(store, (self.capacity + (name in WITH_LAST),), skip=1)
            map_tree(lambda new, old: new.__setitem__(slice(0, len(old)), old), longer, store)
            self.columns[name] = longer

    def fragment(self, rows: int, width: int, **facts: Any) -> Fragment:
        """The rows that were written."""
        columns = {name: take(store, slice(0, rows + (name in WITH_LAST))) for name, store in self.columns.items()}
        return Fragment(columns, rows, width, **facts)


def _lead(value: Any) -> tuple[int, ...]:
    while isinstance(value, (dict, tuple)):
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    lead: tuple[int, ...] = value.shape[:1]
    return lead
