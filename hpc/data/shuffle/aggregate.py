"""Group-by: states in the map tasks, merged and finished by the key's partition."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import Any

import numpy as np
import pyarrow as pa

from hpc.data.aggregate import AggregateFn
from hpc.data.shuffle import dense, gather, partition
from hpc.data.shuffle import states as states_of
from hpc.data.shuffle.exchange import Base, Early, Exchange, Gather, Need, Partitioner, Parts, Place, Range
from hpc.data.shuffle.groups import Groups, compute
from hpc.data.shuffle.states import no_column

#: States of fewer bytes than this are merged by one task, without map tasks.
FEW_BYTES = 4 << 20
#: States of a part are held until there are as many as this; then they are merged.
HELD_ROWS = 1 << 18
#: Rows are brought together for tables of about so many bytes. All tasks that merge read the same tables, where these
#: fill at most one part in so many of a store.
HELD_BYTES, STORE_SHARE = 32 << 20, 4
#: The rows that tell how many groups a table has; and a table that is asked so has so many times as many, at least.
SAMPLE_ROWS, LEAST_SAMPLES = 8192, 4
#: Rows are passed on as they are where states would not be fewer than one in so many.
WORTH = 2
#: In the schema of a table of such rows.
AS_ROWS = {b"hpc.data.rows": b"1"}


@dataclass(frozen=True)
class Aggregated(Base):
    """One row for each group, with its keys and aggregates. Without keys there is one group, and one partition."""

    keys: tuple[str, ...]
    aggregates: tuple[AggregateFn, ...]
    wanted: int | None = None
    #: Groups come in the order of their hash, so that it does not depend on the number of partitions.
    by_hash: bool = False

    @property
    def name(self) -> str:
        return f"Aggregate({', '.join(self.keys)})" if self.keys else "Aggregate"

    @property
    def partitions(self) -> int | None:
        return self.wanted if self.keys else 1

    def schema_of(self, schemas: Sequence[pa.Schema]) -> pa.Schema | None:
        if any(fn._by_group for fn in self.aggregates):
            return None  # what users' functions give is known when they have run
        tasks = GroupPartitioner(self.keys, self.aggregates, 1)
        parts = tasks.split(Place(0, 0, 0), iter([schemas[0].empty_table()]), None)
        return next(tasks.merge([[part.table for part in parts]], 0, None)).schema

    def columns_of(self, side: int) -> tuple[str, ...] | None:
        """The columns that it looks at; None: any."""
        if any(fn._by_group for fn in self.aggregates):
            return None
        wanted = [getattr(fn, "_target_col_name", None) for fn in self.aggregates]
        return tuple(dict.fromkeys([*self.keys, *(name for name in wanted if name is not None)]))

    def ahead(self) -> tuple[Early, Exchange] | None:
        """States are made where the rows are, so that only they travel."""
        looked_at = self.columns_of(0)
        targets = {getattr(fn, "_target_col_name", None) for fn in self.aggregates}
        texts = () if looked_at is None else tuple(key for key in self.keys if key not in targets)
        early = PartialGroups(self.keys, self.aggregates, texts, looked_at)
        return early, StatesMerged(self.keys, self.aggregates, self.wanted, self.by_hash)

    def steady(self) -> Aggregated:
        return replace(self, by_hash=True)

    def plan(self, samples: Any, metas: Any, partitions: int) -> Partitioner | Gather:
        return GroupPartitioner(self.keys, self.aggregates, partitions, self.by_hash)


@dataclass(frozen=True)
class StatesMerged(Aggregated):
    """The same, from the states that `PartialGroups` made. Few of them need no map tasks."""

    needs: Need = "metas"
    #: The most bytes that all tasks may read whole, each for its own part of them.
    whole_bytes: int = 0

    def columns_of(self, side: int) -> tuple[str, ...] | None:
        return None

    def fitted(self, store: int, task_bytes: int, nodes: int) -> StatesMerged:
        return replace(self, whole_bytes=store // STORE_SHARE if nodes == 1 else 0)

    def ahead(self) -> tuple[Early, Exchange] | None:
        return None

    def plan(self, samples: Any, metas: Any, partitions: int) -> Partitioner | Gather:
        size = sum(meta.nbytes for meta in metas[0])
        ranges = tuple(Range(block, 0, meta.rows) for block, meta in enumerate(metas[0]))
        if self.partitions in (None, 1) and size <= FEW_BYTES:
            return Gather(((ranges,),), StatesPartitioner(self.keys, self.aggregates, 1, self.by_hash))
        if size <= self.whole_bytes and self.keys and partitions <= partition.BUCKETS:
            return Gather(
                ((ranges,),) * partitions, BucketsMerger(self.keys, self.aggregates, partitions, self.by_hash)
            )
        return StatesPartitioner(self.keys, self.aggregates, partitions, self.by_hash)


@dataclass(frozen=True)
class PartialGroups:
    """A transform: the states of the groups of all rows of a part, as far as that makes them fewer.

    Where nearly each row has a group of its own, the rows are passed on. Their states would cost as much again, and
    be merged later. All tables of a part are of one kind, which its first table decides.

    texts: keys that are texts, also where they come as dictionaries. columns: all that aggregates look at; None: not
    known."""

    keys: tuple[str, ...]
    aggregates: tuple[AggregateFn, ...]
    texts: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    keeps_rows: bool = False

    @property
    def name(self) -> str:
        return f"PartialAggregate({', '.join(self.keys)})" if self.keys else "PartialAggregate"

    def with_texts(self, texts: tuple[str, ...]) -> PartialGroups:
        return replace(self, texts=texts)

    def __call__(self, tables: Iterator[pa.Table], task: Any) -> Iterator[pa.Table]:
        groups = GroupPartitioner(self.keys, self.aggregates, 1)
        first = next((table for table in tables if table.num_columns), None)
        if first is None:
            return
        made = self._rows if self._passes(groups, first) else self._states
        tables = chain([first], tables)
        del first
        yield from made(tables, groups)

    def _states(self, tables: Iterator[pa.Table], groups: GroupPartitioner) -> Iterator[pa.Table]:
        held: list[pa.Table] = []
        rows = 0
        for table in tables:
            states = groups.states(table)
            del table  # or its memory is not there for the next one
            if states is None:
                continue
            held.append(self._as_texts(states, [f"key.{self.keys.index(key)}" for key in self.texts]))
            rows += states.num_rows
            if rows >= HELD_ROWS:
                merged = groups.merged(held)
                held, rows = ([merged], merged.num_rows) if 2 * merged.num_rows <= rows else ([], 0)
                if not held:
                    yield self._in_buckets(merged)  # nearly each row is of a group of its own
        if held:
            yield self._in_buckets(groups.merged(held))

    def _rows(self, tables: Iterator[pa.Table], groups: GroupPartitioner) -> Iterator[pa.Table]:
        held: list[pa.Table] = []
        size = 0
        for table in tables:
            if not table.num_columns and not table.num_rows:
                continue
            check(table, self.keys, self.aggregates)
            held.append(self._as_rows(table))
            size += held[-1].nbytes
            if size >= HELD_BYTES:
                yield partition.in_buckets(held, self.keys)
                held, size = [], 0
        if held:
            yield partition.in_buckets(held, self.keys)

    def _in_buckets(self, states: pa.Table) -> pa.Table:
        """States of which each partition can take its own, where they are many."""
        if not self.keys or states.num_rows < SAMPLE_ROWS:
            return states
        return partition.in_buckets([states], states.column_names[: len(self.keys)])

    def _passes(self, groups: GroupPartitioner, table: pa.Table) -> bool:
        """Whether rows like those of a table are passed on. Some of them, drawn alike each time, tell its groups."""
        if not self.columns or not self.keys or table.num_rows < LEAST_SAMPLES * SAMPLE_ROWS:
            return False
        check(table, self.keys, self.aggregates)
        most = most_groups([table.column(name) for name in self.keys])
        if most is not None and WORTH * most <= table.num_rows:
            return False
        drawn = np.sort(np.random.default_rng(0).integers(0, table.num_rows, SAMPLE_ROWS))
        rows = drawn[np.diff(drawn, prepend=-1) > 0]
        held = max(table.num_rows, HELD_ROWS)  # the states of so many are merged, of this table and those behind it
        keys = gather.take(table.select(self.keys), rows)
        expected = groups_of(Groups(keys, self.keys).count, len(rows), held)
        if WORTH * expected <= held:
            return False
        some = gather.take(table.select(self.columns), rows)
        states = groups.states(some)
        if states is None or not states.num_rows:
            return False
        bytes_of_states = states.nbytes / states.num_rows * expected
        return some.nbytes / len(rows) * held < WORTH * bytes_of_states

    def _as_rows(self, table: pa.Table) -> pa.Table:
        found = self._as_texts(table.select(self.columns), self.texts)
        return found.replace_schema_metadata({**(found.schema.metadata or {}), **AS_ROWS})

    def _as_texts(self, table: pa.Table, names: Sequence[str]) -> pa.Table:
        """A table in which these keys are texts again."""
        for name in names:
            number = table.schema.get_field_index(name)
            field = table.schema.field(number)
            if pa.types.is_dictionary(field.type):
                kind = field.type.value_type
                table = table.set_column(number, field.with_type(kind), table.column(number).cast(kind))
        return table


def most_groups(keys: Sequence[pa.ChunkedArray]) -> int | None:
    """At most so many groups keys have, by the range of whole numbers and the size of dictionaries. None: not known."""
    found = 1
    for column in keys:
        kind = column.type
        if pa.types.is_dictionary(kind) and column.num_chunks == 1:
            found *= 1 + len(column.chunk(0).dictionary)
        elif pa.types.is_integer(kind) and column.null_count < len(column):
            smallest, largest = dense.bounds(column)
            found *= 2 + largest - smallest
        else:
            return None
    return found


def groups_of(seen: int, drawn: int, rows: int) -> float:
    """How many groups so many rows have, if so many were seen in rows that were drawn of them. It takes groups for
    equally large."""
    if seen >= drawn:
        return rows
    low, high = float(seen), float(drawn) * drawn
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * -math.expm1(-drawn / middle) < seen else (low, middle)
    return low * -math.expm1(-rows / low)


def are_rows(table: pa.Table) -> bool:
    """Whether a table has rows that were passed on, and no states."""
    return b"hpc.data.rows" in (table.schema.metadata or {})


@dataclass(frozen=True)
class GroupPartitioner:
    """The tasks of a group-by."""

    keys: tuple[str, ...]
    aggregates: tuple[AggregateFn, ...]
    parts: int
    by_hash: bool = False

    def split(self, place: Place, tables: Iterator[pa.Table], task: Any) -> list[Parts]:
        states = [self.states(table) for table in tables]
        return self.cut([table for table in states if table is not None])

    def cut(self, states: Sequence[pa.Table], merged: bool = False) -> list[Parts]:
        """Tables of states, one after the other, by the hash of their keys. ``merged``: as far as it is worth while."""
        if not states:
            return [Parts(pa.table({}), np.zeros(self.parts + 1, np.int64))]
        table = gather.combine(gather.concat(states)) if merged else self.merged(states)
        return [partition.hash_cut(table, self._key_names(), self.parts)]

    def merge(self, sides: list[list[pa.Table]], part: int, task: Any) -> Iterator[pa.Table]:
        """The groups of a partition; nothing where no task had a row of a known schema."""
        tables = list(self.of_states([table for table in sides[0] if table.num_columns]))
        if not tables:
            return
        merged = self.merged(tables)
        if not self.keys and not merged.num_rows:
            merged = self._merge_all(merged)  # The one group of a dataset without rows.
        if self.by_hash:
            merged = partition.in_order_of_hash(merged, self._key_names())
        columns, names = [merged.column(name) for name in self._key_names()], list(self.keys)
        place = len(self.keys)
        for fn, width in zip(self.aggregates, self._widths(merged)):
            columns.append(states_of.finish(fn, [_one(merged.column(place + n)) for n in range(width)]))
            names.append(unused(fn.name, names))
            place += width
        yield pa.table(columns, names) if columns else pa.table({})

    def of_states(self, tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
        """Tables of states, with those of rows that were passed on, in the same order. Each group is once in a table.

        One that comes may have a group several times: blocks and objects are made of several tables of states."""
        for rows, some in groupby(tables, are_rows):
            alike = list(some)
            there = [table for table in alike if table.num_rows]
            if rows:
                found = self.states(gather.concat(alike))
            else:
                found = self._merge_all(gather.concat(there)) if there else alike[0]
            if found is not None:
                yield found

    def states(self, table: pa.Table) -> pa.Table | None:
        """The states of the groups of one table. None if it has neither rows nor columns, so that nothing is known."""
        if not table.num_columns and not table.num_rows:
            return None
        check(table, self.keys, self.aggregates)
        groups = Groups(table, self.keys)
        keys, states = compute(groups, [states_of.partial(fn, table) for fn in self.aggregates])
        found = self._table(keys, states)
        # Without keys Arrow gives a group of no rows, whose null would stand for a value that is null.
        return found if table.num_rows else found.slice(0, 0)

    def merged(self, tables: Sequence[pa.Table]) -> pa.Table:
        """Tables of states as one, in which each group is there once."""
        some = [table for table in tables if table.num_rows] or tables[:1]
        return some[0] if len(some) == 1 else self._merge_all(gather.concat(some))

    def _merge_all(self, table: pa.Table) -> pa.Table:
        names = self._key_names()
        groups = Groups(table, names)
        wanted, place = [], len(names)
        for fn, width in zip(self.aggregates, self._widths(table)):
            wanted.append(states_of.merge(fn, [table.column(place + n) for n in range(width)]))
            place += width
        return self._table(*compute(groups, wanted))

    def _table(self, keys: list[pa.Array], states: list[list[pa.Array]]) -> pa.Table:
        columns, names = list(keys), self._key_names()
        for number, some in enumerate(states):
            columns += some
            names += [f"{number}.{place}" for place in range(len(some))]
        return pa.table(columns, names)

    def _key_names(self) -> list[str]:
        return [f"key.{number}" for number in range(len(self.keys))]

    def _widths(self, table: pa.Table) -> list[int]:
        """How many columns of state each aggregate has."""
        owners = [int(name.split(".")[0]) for name in table.column_names[len(self.keys) :]]
        return [owners.count(number) for number in range(len(self.aggregates))]


class StatesPartitioner(GroupPartitioner):
    """The tasks of a group-by whose blocks are states already, or rows that were passed on."""

    def split(self, place: Place, tables: Iterator[pa.Table], task: Any) -> list[Parts]:
        found: list[Parts] = []
        for rows, some in groupby([table for table in tables if table.num_columns], are_rows):
            alike = list(some)
            if rows:
                found += [partition.hash_cut(table, self.keys, self.parts) for table in gather.runs(alike)]
            else:
                found += self.cut(alike, merged=sum(table.num_rows for table in alike) >= HELD_ROWS)
        return found or self.cut([])


class BucketsMerger(StatesPartitioner):
    """The same without map tasks: each task takes its own rows of all blocks, which lie in buckets."""

    def merge(self, sides: list[list[pa.Table]], part: int, task: Any) -> Iterator[pa.Table]:
        found: list[pa.Table] = []
        for table in sides[0]:
            if table.num_columns:
                names = self.keys if are_rows(table) else table.column_names[: len(self.keys)]
                found += partition.part_of_buckets(table, names, part, self.parts)
        yield from super().merge([found], part, task)


def _one(column: pa.ChunkedArray) -> pa.Array:
    found = gather.whole(column)
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)


def check(table: pa.Table, keys: Sequence[str], aggregates: Sequence[AggregateFn]) -> None:
    """Raise ValueError for a column that is not there."""
    for key in keys:
        if key not in table.column_names:
            raise ValueError(no_column(key, table.column_names))
    for fn in aggregates:
        fn._check(table.column_names)


def unused(name: str, names: Sequence[str]) -> str:
    """The name, with a number behind it if there is a column of that name."""
    number, found = 1, name
    while found in names:
        number += 1
        found = f"{name}_{number}"
    return found
