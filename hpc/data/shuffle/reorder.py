"""Several partitions of a shuffle or a sort, each put in its order, as blocks: the rows are moved once, to the store.

Partitions that fit the caches of a processor are put in order several times faster than those of the size of a task. So
a task has many of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.cut import RowSizes, bounds_of_blocks
from hpc.data.shuffle import gather
from hpc.data.shuffle.exchange import Reordering
from hpc.data.shuffle.moved import Run, moved


def reordered(
    merger: Reordering, sources: Sequence[pa.Table], ends: Sequence[np.ndarray], first: int, target_bytes: int | None
) -> Iterator[Any]:
    """Blocks of about so many bytes of all rows of partitions; without rows one table without rows.

    ends: for each source where the rows of each partition begin, and where the last ends. first: the number of the
    first partition."""
    known = merger.with_columns(list(sources))
    ends = [end for table, end in zip(sources, ends) if any(table is one for one in known)]
    if not known:
        return
    told = [table.select([merger.hidden]) for table in known] if merger.hidden else known
    sources = [merger.shown(table) for table in known]
    runs = []
    for place in range(len(ends[0]) - 1):
        spans = [(at, int(end[place]), int(end[place + 1])) for at, end in enumerate(ends)]
        rows = sum(stop - start for _, start, stop in spans)
        if rows:
            order = merger.order_of(lambda spans=spans: _table(told, spans), rows, first + place)  # type: ignore[misc]
            runs.append(Run(spans, order))
    if not runs:
        yield gather.concat([table.slice(0, 0) for table in sources])
        return
    for some in _cut(sources, ends, runs, target_bytes):
        yield moved(sources, some)


def _table(sources: Sequence[pa.Table], spans: list[tuple[int, int, int]]) -> pa.Table:
    return gather.concat([sources[at].slice(start, stop - start) for at, start, stop in spans])


def _cut(
    sources: Sequence[pa.Table], ends: Sequence[np.ndarray], runs: list[Run], target_bytes: int | None
) -> Iterator[list[Run]]:
    """The runs of each block, where a `Cutter` would cut."""
    sizes = RowSizes()
    table = _table(sources, [(at, int(end[0]), int(end[-1])) for at, end in enumerate(ends)])

    def each_row() -> np.ndarray:
        found = []
        for run in runs:
            here = sizes.rows(_table(sources, run.spans))
            found.append(here if run.rows is None else here[run.rows])
        return np.concatenate(found)

    count, each, total = sum(run.taken for run in runs), sizes.fixed(table.schema), sizes.total(table)
    if count < table.num_rows and target_bytes is not None:  # only the first rows of partitions are wanted
        total = int(each_row().sum()) if each is None else each * count
    bounds = bounds_of_blocks(count, total, each, each_row, target_bytes)
    starts = np.cumsum([0, *(run.taken for run in runs)])
    for begin, end in pairwise(bounds):
        some = []
        for number in range(int(np.searchsorted(starts, begin, "right")) - 1, len(runs)):
            start, run = int(starts[number]), runs[number]
            if start >= end:
                break
            assert run.rows is not None
            some.append(Run(run.spans, run.rows[max(0, begin - start) : end - start]))
        yield some
