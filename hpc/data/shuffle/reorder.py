"""Several partitions of a shuffle or a sort, each put in its order, as blocks: the rows are moved once, to the store.

Partitions that fit the caches of a processor are put in order several times faster than those of the size of a task. So
a task has many of them. Their rows lie in many short pieces. Columns of several partitions are brought together first,
in one call, and then taken in their order, in another one. So Python looks at each piece once for a column.
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
from hpc.data.shuffle.moved import Run, Sources, moved, spanned

#: Rows of partitions that are brought together have about so many bytes, where blocks have no size.
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
        """The pieces of several sources."""
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
    """Blocks of about so many bytes of all rows of partitions; without rows one table without rows. A block has whole
    partitions where these are smaller.

    ends: for each source where the rows of each partition begin and end in each of its pieces. first: the number of the
    first partition. here: tables are made in this process, and not where they are stored."""
    known = merger.with_columns(list(sources))
    if not known:
        return
    pieces = Pieces.of([end for table, end in zip(sources, ends) if any(table is one for one in known)])
    all_of = Sources(known)
    shown = Sources([merger.shown(table) for table in known]) if merger.hidden else all_of
    runs = (run for run in _runs(merger, all_of, pieces, first, target_bytes or RUN_BYTES) if run.taken)
    given = False
    for block in _blocks(shown, runs, target_bytes):
        given = True
        yield moved(shown, block, here)
    if not given:
        yield gather.concat([table.slice(0, 0) for table in shown.tables])


def _runs(merger: Reordering, sources: Sources, pieces: Pieces, first: int, size: int) -> Iterator[Run]:
    """The rows of neighbouring partitions, about so many bytes of them together, in their order."""
    counts = pieces.counts
    rows = int(counts.sum())
    total = sources.nbytes * rows / max(1, sum(table.num_rows for table in sources.tables))
    keys = sources.select(merger.looks_at)
    number = max(1, round(total / size))
    groups = (np.cumsum(counts) - counts // 2) * number // max(1, rows)
    bounds = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), pieces.parts]
    for begin, end in pairwise(bounds):
        spans = pieces.spans(begin, end)
        if not spans:
            continue
        looked_at = spanned(keys, spans)
        if end == begin + 1:
            yield Run(spans, merger.order_of(partial(_same, looked_at), int(counts[begin]), first + begin))
            continue
        found = []
        for place, some in enumerate(pieces.rows(begin, end), begin):
            if len(some):
                found.append(some[merger.order_of(partial(gather.take, looked_at, some), len(some), first + place)])
        yield Run(spans, np.concatenate(found))


def _same(table: Any) -> Any:
    return table


def _blocks(sources: Sources, runs: Iterator[Run], target_bytes: int | None) -> Iterator[list[Run]]:
    """The runs of each block; without a size all are one."""
    if target_bytes is not None:
        for run in runs:
            yield from ([some] for some in _cut(sources, run, target_bytes))
    elif together := list(runs):
        yield together


def _cut(sources: Sources, run: Run, target_bytes: int) -> Iterator[Run]:
    """A run as blocks: one, unless it has too many bytes for that, as its rows are brought together for each."""
    sizes = RowSizes()
    count = run.taken
    each = sizes.fixed(sources.schema) if sources.are_alike else None

    def each_row() -> np.ndarray:
        return sizes.rows(spanned(sources, run.spans))[run.rows]

    if each is not None:
        total = each * count
    elif count == run.length:
        total = sizes.total(spanned(sources, run.spans))
    else:  # only the first rows of partitions are wanted
        total = int(each_row().sum())
    assert run.rows is not None
    for begin, end in pairwise(bounds_of_blocks(count, total, each, each_row, target_bytes)):
        yield run.of(run.rows[begin:end])
