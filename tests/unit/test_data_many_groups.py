"""Groups of few rows each: rows that are passed on as they are, partitions that take their own rows of whole blocks,
and kernels that several aggregates have in common."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.data.aggregate import AggregateFn, Count, Max, Mean, Min, Std, Sum, Unique
from hpc.data.block.cut import Cutter, blocks_of
from hpc.data.block.passing import passing
from hpc.data.running import meta_of
from hpc.data.shuffle import aggregate, partition
from hpc.data.shuffle.aggregate import (
    Aggregated,
    BucketsMerger,
    GroupPartitioner,
    StatesPartitioner,
    are_rows,
    groups_of,
)
from hpc.data.shuffle.exchange import Gather, Place
from hpc.data.shuffle.groups import Groups, compute
from hpc.data.shuffle.kernel import Kernel
from hpc.data.shuffle.local import run
from hpc.data.shuffle.partition import BUCKETS, in_buckets, part_of_buckets
from hpc.data.transform.base import TaskContext

TASK = TaskContext(op="", index=0)
STORE = 1 << 30
KEYS = {
    "numbers": lambda drawn, many: pa.array([drawn.choice([None, drawn.randrange(many)]) for _ in range(60)]),
    "floats": lambda drawn, many: pa.array([
        drawn.choice([None, float("nan"), -0.0, 0.0, *[drawn.randrange(many) / 4] * 30]) for _ in range(60)
    ]),
    "texts": lambda drawn, many: pa.array([str(drawn.randrange(many)) for _ in range(60)]),
    "few": lambda drawn, many: pa.array([str(drawn.randrange(many)) for _ in range(60)]).dictionary_encode(),
}  # fmt: skip


def rows_of(tables):
    """Texts of all rows, in an order of their own. Sums of floats depend on the order a little."""
    found = [{name: round(cell, 9) if isinstance(cell, float) else cell for name, cell in row.items()}
             for table in tables for row in table.to_pylist()]  # fmt: skip
    return sorted(map(repr, found))


def small(monkeypatch):
    """Tables of few rows are as those of many."""
    monkeypatch.setattr(aggregate, "SAMPLE_ROWS", 16)
    monkeypatch.setattr(aggregate, "LEAST_SAMPLES", 1)
    monkeypatch.setattr(aggregate, "HELD_ROWS", 60)
    monkeypatch.setattr(aggregate, "HELD_BYTES", 2000)
    monkeypatch.setattr(aggregate, "FEW_BYTES", 0)


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("kind", KEYS)
def test_groups_are_the_same_where_some_parts_pass_their_rows_on(kind, nodes, monkeypatch):
    small(monkeypatch)
    seen = set()
    for seed in range(12):
        drawn = random.Random(seed)
        parts = []
        for many in (2, 1000, 1000):
            tables = [pa.table({"k": KEYS[kind](drawn, many), "x": range(60), "y": [0.5] * 60}) for _ in range(3)]
            parts.append([tables[0], tables[0].slice(0, 0), *tables[1:]])
        exchange = Aggregated(("k",), (Count(), Sum("x"), Mean("y"), Min("y"), Max("x"), Std("x"), Unique("y")))
        early, late = exchange.ahead()
        early = aggregate.replace(early, texts=("k",) if kind == "few" else ())
        made = [table for part in parts for table in early(iter(part), TASK)]
        seen |= {are_rows(table) for table in made}
        late = late.fitted(STORE, STORE, nodes)
        plan = late.plan([[]], [[meta_of(table) for table in made]], 3)
        assert isinstance(plan, Gather) == (nodes == 1)
        plain = [table.set_column(0, "k", table["k"].cast(pa.string())) if kind == "few" else table
                 for part in parts for table in part]  # fmt: skip
        assert rows_of(run(late, [made], 3)) == rows_of(run(exchange, [plain], 3))
    assert seen == {True, False}


def test_rows_are_passed_on_only_where_states_are_not_fewer():
    exchange = Aggregated(("k",), (Sum("x"), Mean("x")))
    early, _ = exchange.ahead()
    rows = 40_000
    own = pa.table({"k": np.random.default_rng(0).permutation(rows), "x": np.ones(rows)})
    shared = pa.table({"k": np.arange(rows) // 8, "x": np.ones(rows)})
    assert [are_rows(table) for table in early(iter([own, shared]), TASK)] == [True], "the first table decides"
    assert [are_rows(table) for table in early(iter([shared, own]), TASK)] == [False]
    assert not are_rows(next(early(iter([own.slice(0, 1000)]), TASK)))
    again = pa.table({"k": np.arange(rows) % 5000, "x": np.ones(rows)})
    assert not are_rows(next(early(iter([again]), TASK))), "keys that come again and again"
    texts = own.append_column("t", pa.array(["long " * 100] * rows))
    counted, _ = Aggregated(("k",), (Count("t"),)).ahead()
    assert not are_rows(next(counted(iter([texts]), TASK))), "a count is smaller than the texts"
    mine = AggregateFn(lambda key: 0, lambda a, b: a + b, "mine", accumulate_row=lambda state, row: state + 1)
    by_group, _ = Aggregated(("k",), (mine,)).ahead()
    assert by_group.columns is None and not are_rows(next(by_group(iter([shared.slice(0, 40)]), TASK)))
    with pytest.raises(ValueError, match="no column"):
        list(early(iter([own, own.drop_columns(["x"])]), TASK))


@settings(max_examples=50, deadline=None, database=None, derandomize=True)
@given(st.lists(st.integers(0, 50), max_size=4), st.integers(1, BUCKETS), st.integers(0, 3))
def test_each_row_is_in_one_partition_of_a_block_also_of_a_part_of_it(sizes, parts, cut_off):
    tables = [pa.table({"k": [f"{n}" for n in range(size)], "n": range(size)}) for size in sizes] or [
        pa.table({"k": pa.array([], pa.string()), "n": pa.array([], pa.int64())})
    ]
    whole = in_buckets(tables, ["k"])
    block = whole.slice(cut_off)
    found = [pa.concat_tables(part_of_buckets(block, ["k"], part, parts)) for part in range(parts)]
    assert rows_of(found) == rows_of([block])
    for part, table in enumerate(found):
        buckets = partition.partition_ids(partition.hash_columns(table, ["k"]), BUCKETS).astype(int)
        assert all(bucket * parts // BUCKETS == part for bucket in buckets)


def test_the_number_of_groups_is_told_from_some_rows():
    drawn = np.random.default_rng(1)
    for groups in (3000, 100_000, 2_000_000):
        some = len(np.unique(drawn.integers(0, groups, 8192)))
        expected = groups * (1 - np.exp(-262_144 / groups))
        assert groups_of(some, 8192, 262_144) == pytest.approx(expected, rel=0.25)
    assert groups_of(8192, 8192, 100_000) == 100_000


def test_what_two_aggregates_have_in_common_is_computed_once():
    table = pa.table({"k": pa.array(["a", "b"] * 10), "x": [0.5] * 20, "y": pa.array([None, 1.0] * 10)})
    counts = [Kernel(table.column(name), "count", option) for name, option in (("x", None), ("k", None))]
    assert counts[0].identity == counts[1].identity, "columns without nulls have as many values"
    assert Kernel(table.column("y"), "count").identity != counts[0].identity
    assert Kernel(table.column("x"), "sum").identity == Kernel(table.column("x"), "sum").identity
    assert Kernel(table.column("x"), "sum").identity != Kernel(table.column("y"), "sum").identity
    assert Kernel(table.column("x").slice(1), "sum").identity != Kernel(table.column("x"), "sum").identity
    wanted = [[Kernel(table.column("x"), "sum"), Kernel(table.column("x"), "count")],
              [Kernel(table.column("y"), "max")], [Kernel(table.column("x"), "sum")]]  # fmt: skip
    keys, found = compute(Groups(table, ["k"]), wanted)
    assert keys[0].to_pylist() == ["a", "b"]
    values = [[array.to_pylist() for array in some] for some in found]
    assert values == [[[5.0, 5.0], [10, 10]], [[None, 1.0]], [[5.0, 5.0]]]


def test_a_mask_of_all_or_no_rows_copies_nothing():
    table = pa.table({"x": range(4)})
    assert passing(table, pa.array([True] * 4)) is table
    assert passing(table, pa.array([False, None, False, None])).num_rows == 0
    assert passing(table, pa.chunked_array([[True, None], [True, False]])).to_pydict() == {"x": [0, 2]}
    assert passing(table.slice(0, 0), pa.array([], pa.bool_())).num_rows == 0


@pytest.mark.parametrize("kind", [StatesPartitioner, BucketsMerger])
def test_a_group_that_one_block_has_several_times_is_one(kind):
    asked = Aggregated(("k",), (Sum("v"), Count()))
    early = GroupPartitioner(asked.keys, asked.aggregates, 1)
    states = [early.states(pa.table({"k": [1, 2, None], "v": [number] * 3})) for number in (1, 10)]
    block = pa.concat_tables(states)  # as a part gives it that has merged what it held twice
    tasks = kind(asked.keys, asked.aggregates, 2)
    if kind is StatesPartitioner:
        (cut,) = tasks.split(Place(0, 0, 0), iter([block]), TASK)
        sides = [[[cut.part(part)]] for part in range(2)]
    else:
        sides = [[[block]], [[block]]]
    found = [table for part in range(2) for table in tasks.merge(sides[part], part, TASK)]
    wanted = [{"k": key, "sum(v)": 11, "count()": 2} for key in (1, 2, None)]
    assert rows_of(found) == rows_of([pa.Table.from_pylist(wanted, found[0].schema)])


def test_keys_of_a_dictionary_have_a_place_in_it_also_where_they_are_null():
    # Arrow reads beside a dictionary where it has none, when groups of several tables are brought together.
    tables = [
        pa.table({"k": pa.array(some).dictionary_encode(), "j": some}) for some in (["a", None], [None, "b", "a"])
    ]
    for keys in (["k"], ["k", "j"]):
        found = [compute(Groups(table, keys), [[Kernel(table["k"], "count")]])[0][0] for table in tables]
        for made, table in zip(found, tables):
            assert set(made.to_pylist()) == {*table["k"].to_pylist()} and made.type == table["k"].type
            places = np.frombuffer(made.indices.buffers()[1], np.int32, len(made), 4 * made.offset)
            assert ((places >= 0) & (places < len(made.dictionary))).all()


@pytest.mark.parametrize("other", [pa.int32(), pa.float64(), pa.null()])
def test_rows_that_are_passed_on_may_have_other_types_in_each_table(other, monkeypatch):
    small(monkeypatch)
    values = [pa.array([1] * 100), pa.nulls(100) if other == pa.null() else pa.array([1] * 100, other)]
    tables = [pa.table({"k": range(100 * at, 100 * at + 100), "v": one}) for at, one in enumerate(values)]
    early, _ = Aggregated(("k",), (Sum("v"),)).ahead()
    (block,) = blocks_of(early(iter(tables), TASK), Cutter(None))
    assert are_rows(block) and block.num_rows == 200
    (found,) = BucketsMerger(("k",), (Sum("v"),), 1).merge([[block]], 0, TASK)
    sums = [1] * 100 + [None if other == pa.null() else 1] * 100
    wanted = pa.table({"k": range(200), "sum(v)": pa.array(sums, found.schema.field("sum(v)").type)})
    assert rows_of([found]) == rows_of([wanted])
