"""Functions of users on groups: a table that is sorted by its keys is cut where a key changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.codes import codes
from hpc.data.transform.maps import MapBatches


class MapGroups(MapBatches):
    """Each group of rows with equal keys is one batch.

    keys: names of the columns; without any, each table is one group. Each table has all rows of its groups, those of a
    group one after the other.
    """

    verb = "map_groups"

    def __init__(self, fn: Any, keys: Sequence[str], **options: Any) -> None:
        super().__init__(fn, **options)
        self.keys = tuple(keys)

    @property
    def name(self) -> str:
        return f"MapGroups({self.udf.name})"

    def few(self, given: Any, task: Any) -> None:
        """It needs tables, where groups are cut."""

    def _batches(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            ends = group_ends(table, self.keys)
            start = 0
            for end in ends:
                yield table.slice(start, end - start)
                start = end


def group_ends(table: pa.Table, keys: Sequence[str]) -> list[int]:
    """Where each group of neighbours with equal keys ends. Nulls are equal to each other, and so are nans."""
    rows = table.num_rows
    if not rows:
        return []
    changes = np.zeros(rows - 1, dtype=bool)
    for key in keys:
        ids, _ = codes(table.column(key))
        changes |= ids[1:] != ids[:-1]
    return [*(np.flatnonzero(changes) + 1).tolist(), rows]
