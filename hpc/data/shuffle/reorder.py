"""Several partitions of a shuffle or a sort, each put in its order, as blocks: the rows are moved once, to the store.

Partitions that fit the caches of a processor are put in order several times faster than those of the size of a task. So
a task has many of them. Their rows lie in many short pieces. Columns of several partitions are brought together first,
in one call, and then taken in their order, in another one: so Python looks at each piece once for a column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.cut import RowSizes, bounds_of_blocks
from hpc.data.shuffle import gather
from hpc.data.shuffle.exchange import Reordering, packed
from hpc.data.shuffle.moved import Run, moved, spanned

#: Rows of partitions that are brought together have about so many bytes.
RUN_BYTES = 32 << 20


@dataclass(frozen=True)
class Pieces:
    """Where rows of partitions lie: a piece of a source has some of each, one partition after the other.

    sources: the number of each piece's source. ends: where each partition begins and ends in each piece, as row
    numbers of its source: pieces x (partitions + 1)."""

    sources: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, ends: Sequence[np.ndarray]) -> Pieces:
        """Those of several sources."""
        return cls(np.repeat(np.arange(len(ends)), [len(some) for some in ends]), np.concatenate(ends))

    @property
    def parts(self) -> int:
        return self.ends.shape[1] - 1

    @property
    def counts(self) -> np.ndarray:
        """The rows of each partition."""
        counts: np.ndarray = np.diff(self.ends, axis=1).sum(axis=0)
        return counts

    def spans(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """The source, the first row, and the one behind the last, of each piece of these partitions."""
        starts, stops = self.ends[:, first], self.ends[:, last]
        some = np.flatnonzero(stops > starts)
        return list(zip(self.sources[some].tolist(), starts[some].tolist(), stops[some].tolist()))

    def rows(self, first: int, last: int) -> Iterator[np.ndarray]:
        """For each of these partitions its rows, as numbers among the rows of all of their spans."""
        bounds = packed(self.ends[:, first : last + 1])
        for place in range(last - first):
            sizes = bounds[:, place + 1] - bounds[:, place]
            rows = np.repeat(bounds[:, place] - (np.cumsum(sizes) - sizes), sizes)
            rows += np.arange(len(rows))
            yield rows


def reordered(
    merger: Reordering,
    sources: Sequence[pa.Table],
    ends: Sequence[np.ndarray],
    first: int,
    target_bytes: int | None,
    here: bool = False,
) -> Iterator[Any]:
    """Blocks of about so many bytes of all rows of partitions; without rows one table without rows.

    ends: for each source where the rows of each partition begin and end in each of its pieces. first: the number of the
    first partition. here: tables are made in this process, and not where they are stored."""
    known = merger.with_columns(list(sources))
    if not known:
        return
    pieces = Pieces.of([end for table, end in zip(sources, ends) if any(table is one for one in known)])
    shown = [merger.shown(table) for table in known]
    runs = list(_runs(merger, known, pieces, first))
    if not runs:
        yield gather.concat([table.slice(0, 0) for table in shown])
        return
    for some in _cut(shown, runs, target_bytes):
        yield moved(shown, some, here)


def _runs(merger: Reordering, sources: list[pa.Table], pieces: Pieces, first: int) -> Iterator[Run]:
    """The rows of neighbouring partitions, about so many bytes of them together, in their order."""
    counts = pieces.counts
    each = sum(table.nbytes for table in sources) / max(1, sum(table.num_rows for table in sources))
    groups = np.cumsum(counts) * each // RUN_BYTES
    bounds = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), pieces.parts]
    for begin, end in pairwise(bounds):
        spans = pieces.spans(begin, end)
        if not spans:
            continue
        looked_at = None if merger.looks_at == () else spanned(sources, spans, merger.looks_at)
        found = []
        for place, rows in enumerate(pieces.rows(begin, end), begin):
            if len(rows):
                found.append(rows[merger.order_of(partial(gather.take, looked_at, rows), len(rows), first + place)])
        yield Run(spans, np.concatenate(found))


def _cut(sources: Sequence[pa.Table], runs: list[Run], target_bytes: int | None) -> Iterator[list[Run]]:
    """The runs of each block, where a `Cutter` would cut."""
    sizes = RowSizes()
    schema = sources[0].schema
    alike = all(table.schema.equals(schema) for table in sources)
    each = sizes.fixed(schema) if alike else None
    count = sum(run.taken for run in runs)

    def each_row() -> np.ndarray:
        return np.concatenate([sizes.rows(spanned(sources, run.spans))[run.rows] for run in runs])

    if each is not None:
        total = each * count
    elif target_bytes is None:
        total = 0
    elif count == sum(run.length for run in runs):
        total = sum(sizes.total(spanned(sources, run.spans)) for run in runs)
    else:  # only the first rows of partitions are wanted
        total = int(each_row().sum())
    bounds = bounds_of_blocks(count, total, each, each_row, target_bytes)
    starts = np.cumsum([0, *(run.taken for run in runs)])
    for begin, end in pairwise(bounds):
        some = []
        for number in range(int(np.searchsorted(starts, begin, "right")) - 1, len(runs)):
            start, run = int(starts[number]), runs[number]
            if start >= end:
                break
            assert run.rows is not None
            some.append(run.of(run.rows[max(0, begin - start) : end - start]))
        yield some
