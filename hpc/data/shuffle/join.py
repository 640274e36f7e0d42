"""Join of two datasets: both by the hash of their keys, or the small one whole to each part of the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.block.views import none_of, taken_of
from hpc.data.shuffle import gather
from hpc.data.shuffle.exchange import Base, Gather, Need, Parts, Place, Range
from hpc.data.shuffle.matches import Matches, Rows, comparable, keys_of, of_one_type
from hpc.data.shuffle.partition import hash_cut

TYPES = (
    "inner", "left_outer", "right_outer", "full_outer", "left_semi", "right_semi", "left_anti", "right_anti",
)  # fmt: skip

# A side of at most so many bytes may be sent whole to each part of the other. It may have no more than one part in so
# many of the store of a node, which has it beside the parts.
SMALL, STORE_SHARE = 64 * 2**20, 4
# The result of a partition is made in tables of about so many bytes.
_PIECE = 64 * 2**20


@dataclass(frozen=True)
class Joining:
    """What the rows of a join are."""

    type: str
    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    left_suffix: str | None = None
    right_suffix: str | None = None

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ValueError(f"join type {self.type!r} is none of {', '.join(TYPES)}")
        if not self.left_on or len(self.left_on) != len(self.right_on):
            raise ValueError(f"a join has as many keys on both sides, one or more: {self.left_on} and {self.right_on}")

    def may_divide(self, side: int) -> bool:
        """Whether rows of a side may be joined apart from its others, with all of the other side. Each row of that is
        then in several joins, so that it must not matter whether it has a match in one of them."""
        return self.type == "inner" or self.type.startswith("left_" if side == 0 else "right_")

    def tables(self, left: pa.Table, right: pa.Table, by_right: bool = False) -> Iterator[pa.Table]:
        """The rows of the join of two tables, in the order of the left. right_* have that of the right, and an inner
        one of which that is wanted."""
        pairs = [
            comparable(one, other, names)
            for one, other, names in zip(
                keys_of(left, self.left_on), keys_of(right, self.right_on), zip(self.left_on, self.right_on)
            )
        ]
        lefts, rights = [one for one, _ in pairs], [other for _, other in pairs]
        side, _, what = self.type.partition("_")
        if what in ("semi", "anti"):
            table, probe, build = (left, lefts, rights) if side == "left" else (right, rights, lefts)
            found = Matches(probe, build).found
            yield gather.take(table, np.flatnonzero(found if what == "semi" else ~found))
            return
        names = self._names(left, right)
        left_rows: Rows
        right_rows: Rows
        if side == "right" or (by_right and side == "inner"):
            right_rows, left_rows = Matches(rights, lefts).pairs(outer=side == "right")
        else:
            matches = Matches(lefts, rights)
            left_rows, right_rows = matches.pairs(outer=side != "inner")
            if side == "full":
                more = matches.unmatched_build(right.num_rows)
                left_rows = np.concatenate([np.asarray(left_rows, np.int64), np.full(len(more), -1)])
                right_rows = np.concatenate([right_rows, more])
        yield from self._rows(left, right, left_rows, right_rows, names)

    def _rows(
        self, left: pa.Table, right: pa.Table, left_rows: Rows, right_rows: Rows, names: list[str]
    ) -> Iterator[pa.Table]:
        width = left.nbytes / max(1, left.num_rows) + right.nbytes / max(1, right.num_rows)
        step = max(1024, int(_PIECE / max(1.0, width)))
        if not isinstance(left_rows, range) and (few := gather.take_few(left, left_rows)) is not None:
            left, left_rows = few, range(len(left_rows))
        left, right = (
            side if isinstance(rows, range) else gather.combine(side)
            for side, rows in ((left, left_rows), (right, right_rows))
        )
        kept = [name for name in left.column_names if self.type != "right_outer" or name not in self.left_on]
        more = [name for name in right.column_names if self.type == "right_outer" or name not in self.right_on]
        for start in range(0, max(1, len(left_rows)), step):
            at, there = left_rows[start : start + step], right_rows[start : start + step]
            columns = list(take_or_null(left.select(kept), at).columns)
            columns += take_or_null(right.select(more), there).columns
            if self.type == "full_outer":
                self._fill_keys(columns, kept, right, at, there)
            yield pa.table(columns, names)

    def _fill_keys(self, columns: list[Any], kept: list[str], right: pa.Table, at: Rows, there: Rows) -> None:
        """Where only the right has a row, the keys are the right's."""
        at = np.asarray(at, np.int64)
        for one, other in zip(self.left_on, self.right_on):
            place, key = kept.index(one), take_or_null(right.select([other]), there).column(0)
            column, key = of_one_type(columns[place], key)
            both = pa.concat_tables([pa.table({"": column}), pa.table({"": key})]).column(0)
            rows = np.where(at >= 0, np.arange(len(at)), len(at) + np.arange(len(at)))
            columns[place] = gather.take_column(both, rows)

    def _names(self, left: pa.Table, right: pa.Table) -> list[str]:
        """The names of the columns of the result. Those of both sides get the suffixes."""
        ours = [name for name in left.column_names if self.type != "right_outer" or name not in self.left_on]
        theirs = [name for name in right.column_names if self.type == "right_outer" or name not in self.right_on]
        both = set(ours) & set(theirs)
        if both and not (self.left_suffix or self.right_suffix):
            raise ValueError(f"both sides of the join have columns {sorted(both)}: give left_suffix or right_suffix")
        names = [name + (self.left_suffix or "") if name in both else name for name in ours]
        names += [name + (self.right_suffix or "") if name in both else name for name in theirs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the result of the join would have columns {twice} twice: give other suffixes")
        return names


def take_or_null(table: pa.Table, rows: Rows) -> pa.Table:
    """The rows at these numbers; nulls for -1. Those of a range are views."""
    if isinstance(rows, range):
        return table.slice(rows.start, len(rows))
    if not len(rows) or rows.min() >= 0:
        return gather.take(table, rows)
    indices = pa.array(rows, mask=rows < 0)
    columns = []
    for column in table.columns:
        kind = column.type
        if not len(column):
            columns.append(_nulls(len(rows), kind))
        elif isinstance(kind, pa.BaseExtensionType):
            storage = pa.concat_arrays([chunk.storage for chunk in column.chunks])
            columns.append(pa.ExtensionArray.from_storage(kind, storage.take(indices)))
        else:
            columns.append(taken_of(column, indices))
    return pa.table(columns, table.column_names)


def _nulls(count: int, kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.nulls(count, kind.storage_type))
    return pa.nulls(count, kind)


@dataclass(frozen=True)
class Join(Base):
    """Two datasets on equal keys."""

    joining: Joining
    wanted: int
    inputs: int = 2
    needs: Need = "metas"
    #: The most bytes of a side that goes whole to each part of the other, and of such a part. None: no limit.
    small: int = SMALL
    part_bytes: int | None = None
    #: The order of the rows does not depend on the stores of this session, and on how blocks are cut.
    is_steady: bool = False

    @property
    def name(self) -> str:
        return f"Join({self.joining.type})"

    @property
    def partitions(self) -> int | None:
        return self.wanted

    def schema_of(self, schemas: Sequence[pa.Schema]) -> pa.Schema | None:
        return next(self.joining.tables(schemas[0].empty_table(), schemas[1].empty_table())).schema

    def fitted(self, store: int, task_bytes: int, nodes: int) -> Join:
        small = self.small if self.is_steady else min(self.small, store // STORE_SHARE)
        return replace(self, small=small, part_bytes=task_bytes)

    def steady(self) -> Join:
        return replace(self, is_steady=True)

    @property
    def must_fit(self) -> str:  # type: ignore[override]
        words = {
            "full_outer": "In a full outer join each row must see all rows of the other side.",
            "left": "Each row of the left side must see all rows of the right.",
            "right": "Each row of the right side must see all rows of the left.",
        }
        why = words.get(self.joining.type) or words.get(self.joining.type.partition("_")[0], "")
        return (
            f"{why} Where one key has most of the rows of a side, join that key by itself, or leave rows out that the "
            "result does not need: for semi and anti joins one row of each key is enough, as "
            "groupby(keys).count() gives them. Where the rows are those of many keys, take more partitions "
            "(num_partitions)."
        ).strip()

    @property
    def divisible(self) -> tuple[int, ...]:
        return tuple(side for side in (0, 1) if self._divides(side))

    def _divides(self, side: int) -> bool:
        """Whether a side may come in parts. The rows of an inner join have the order of the left: it keeps that only
        where the left is cut."""
        return self.joining.may_divide(side) and not (self.is_steady and side and self.joining.type == "inner")

    def may_read(self, side: int) -> bool:
        """Whether tasks that read a side may join it, each its own rows with all of the other side."""
        return not self.is_steady and self._divides(side)

    def goes_to_reads(self, size: int, others: int, tasks: int) -> bool:
        """Whether a side of so many bytes goes whole to so many tasks, which read about so many bytes of the other."""
        return size <= self.small and size * tasks <= 2 * (size + others)

    def plan(self, samples: Any, metas: Any, partitions: int) -> JoinPartitioner | Gather:
        sizes = [sum(meta.nbytes for meta in side) for side in metas]
        small = self._small(sizes, partitions)
        if small is None or not metas[1 - small]:
            return JoinPartitioner(self.joining, partitions)
        whole = tuple(Range(block, 0, meta.rows) for block, meta in enumerate(metas[small]))
        count = partitions if self.part_bytes is None else max(partitions, -(-sizes[1 - small] // self.part_bytes))
        parts = _bundles([meta.nbytes for meta in metas[1 - small]], count)
        ranges = []
        for blocks in parts:
            read = tuple(Range(block, 0, metas[1 - small][block].rows) for block in blocks)
            ranges.append((whole, read) if small == 0 else (read, whole))
        return Gather(tuple(ranges), JoinPartitioner(self.joining, len(ranges)))

    def _small(self, sizes: list[int], partitions: int) -> int | None:
        """The side that goes whole to each part of the other, where that moves less than both by their hash."""
        for side in sorted((0, 1), key=sizes.__getitem__):
            fits = self._divides(1 - side)
            if fits and sizes[side] <= self.small and sizes[side] * partitions <= 2 * sum(sizes):
                return side
        return None


def _bundles(sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Blocks that follow each other in at most so many parts of about as many bytes."""
    total = max(1, sum(sizes))
    found: dict[int, list[int]] = {}
    for block, end in enumerate(accumulate(sizes)):
        found.setdefault(min(parts - 1, (end - sizes[block]) * parts // total), []).append(block)
    return list(found.values())


@dataclass(frozen=True)
class JoinPartitioner:
    """The tasks of a join."""

    joining: Joining
    parts: int

    def split(self, place: Place, tables: Iterator[pa.Table], task: Any) -> list[Parts]:
        names = (self.joining.left_on, self.joining.right_on)[place.side]
        return [self._cut(gather.combine(table), names) for table in gather.runs(list(tables))]

    def _cut(self, table: pa.Table, names: Sequence[str]) -> Parts:
        if not table.num_columns and not table.num_rows:
            return Parts(table, np.zeros(self.parts + 1, np.int64))
        keys_of(table.slice(0, 0), names)
        return hash_cut(table, names, self.parts)

    def merge(self, sides: list[list[pa.Table]], partition: int, task: Any) -> Iterator[pa.Table]:
        known = [[table for table in side if table.num_columns] for side in sides]
        if not known[0] and not known[1]:
            return
        on = (self.joining.left_on, self.joining.right_on)
        left = gather.concat(known[0] or [_only_keys(on[0], known[1], on[1])])
        right = gather.concat(known[1] or [_only_keys(on[1], known[0], on[0])])
        yield from self.joining.tables(left, right)


def _only_keys(names: Sequence[str], others: list[pa.Table], theirs: Sequence[str]) -> pa.Table:
    """A side without a block, of which no more is known than that it has no rows."""
    types = [others[0].schema.field(name).type for name in theirs]
    return pa.table([none_of(kind) for kind in types], list(names))
