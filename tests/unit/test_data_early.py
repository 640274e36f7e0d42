"""What is done with rows before an exchange: states of groups, columns that are left out; and keys that are places."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from io_reading import rows as rows_of
from io_reading import source

from hpc.data import range as range_of
from hpc.data.aggregate import AggregateFn, Count, Max, Mean, Std, Sum, Unique
from hpc.data.exec.budget import NodeRoom
from hpc.data.exec.build import build_operators
from hpc.data.exec.settings import RunSettings
from hpc.data.expressions import col
from hpc.data.io.parquet_file import ParquetFormat, few_values
from hpc.data.plan.interpret import interpret
from hpc.data.plan.nodes import Apply, BlockHandle, Blocks, Exchanged, Filter, Read, walk
from hpc.data.plan.optimize import optimized
from hpc.data.plan.rules_exchange import combine_early
from hpc.data.running import meta_of
from hpc.data.shuffle import aggregate, dense
from hpc.data.shuffle.aggregate import FEW_BYTES, HELD_ROWS, Aggregated, PartialGroups, StatesMerged, most_groups
from hpc.data.shuffle.exchange import Gather
from hpc.data.shuffle.kernel import Kernel
from hpc.data.shuffle.matches import Matches

LENGTHS = AggregateFn(lambda key: 0, lambda a, b: a + b, "lengths", accumulate_row=lambda state, row: state + row["x"])


def blocks(*tables):
    return Blocks(tuple(BlockHandle(table, meta_of(table)) for table in tables))


def sorted_rows(plan):
    return sorted((row for table in interpret(plan) for row in table.to_pylist()), key=repr)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.integers(0, 4), st.sampled_from([("k",), ("k", "t"), ()]))
def test_groups_are_the_same_when_their_states_are_made_where_the_rows_are(seed, count, keys):
    drawn = random.Random(seed)
    tables = [
        pa.table(
            {
                "k": pa.array([drawn.choice([None, 1, 2, 3]) for _ in range(rows)], pa.int64()),
                "t": pa.array([drawn.choice("ab") for _ in range(rows)], pa.string()),
                "x": pa.array([drawn.randrange(100) for _ in range(rows)], pa.int64()),
            }
        )
        for rows in (drawn.choice([0, 1, 20]) for _ in range(count))
    ]
    aggregates = (Count(), Sum("x"), Mean("x"), Max("x"), Std("x"), Unique("t"), LENGTHS)
    plan = Exchanged((blocks(*tables),), Aggregated(keys, aggregates))
    early = combine_early(plan)
    assert isinstance(early.nodes[0], Apply) and isinstance(early.exchange, StatesMerged)

    def plain(found):
        return [
            repr({**row, "unique(t)": sorted(row["unique(t)"] or ()), "std(x)": shown(row["std(x)"])}) for row in found
        ]

    def shown(number):
        return None if number is None else round(number, 6)

    assert plain(sorted_rows(early)) == plain(sorted_rows(plan))


def test_many_groups_of_a_part_are_passed_on_and_few_are_kept():
    def given(table):
        return [part.num_rows for part in PartialGroups(("k",), (Sum("x"),))(iter([table, table, table]), None)]

    rows = HELD_ROWS
    many = pa.table({"k": np.arange(rows), "x": np.ones(rows)})
    few = pa.table({"k": np.arange(rows) % 7, "x": np.ones(rows)})
    assert given(many) == [rows, rows, rows] and given(few) == [7]
    assert given(many.slice(0, 0)) == [0], "the columns are told"


def test_the_most_groups_are_known_by_ranges_and_dictionaries():
    few, texts = pa.chunked_array([[3, None, 12]]), pa.chunked_array([pa.array(["a", "b", "a"]).dictionary_encode()])
    assert most_groups([few]) == 11 and most_groups([few, texts]) == 33
    for column in (pa.chunked_array([["a"]]), pa.chunked_array([[1.5]]), pa.chunked_array([[None]], pa.int8())):
        assert most_groups([few, column]) is None


@pytest.mark.parametrize(("groups", "are_rows"), [(10, False), (100_000, True)])
def test_rows_are_looked_at_where_ranges_do_not_tell_that_groups_are_few(groups, are_rows, monkeypatch):
    drawn = []
    monkeypatch.setattr(aggregate, "groups_of", lambda *told: drawn.append(told) or told[-1])
    table = pa.table({"k": np.arange(100_000) % groups, "x": np.zeros(100_000)})
    partial = PartialGroups(("k",), (Sum("x"),), columns=("k", "x"))
    (found,) = partial(iter([table]), None)
    assert bool(drawn) == are_rows and found.num_rows == (100_000 if are_rows else groups)


def test_few_states_are_merged_by_one_task_without_map_tasks():
    exchange = StatesMerged(("k",), (Sum("x"),))
    few = [meta_of(pa.table({"k": [1], "x": [2]}))] * 3
    plan = exchange.plan([], [few], 8)
    assert isinstance(plan, Gather) and plan.parts == 1
    large = [meta_of(pa.table({"x": np.zeros(FEW_BYTES // 8 + 1)}))]
    assert exchange.plan([], [large], 8).parts == 8
    assert StatesMerged(("k",), (Sum("x"),), wanted=3).plan([], [few], 3).parts == 3, "as many as the user wants"


def test_only_the_columns_that_groups_look_at_are_read(tmp_path):
    table = pa.table({"k": [1, 1, 2], "x": [1, 2, 3], "other": ["a", "b", "c"], "f": [1, 0, 1]})
    pq.write_table(table, tmp_path / "a.parquet")
    read = Read(source(ParquetFormat(), str(tmp_path)))
    plan = Exchanged((Filter(read, col("f") == 1),), Aggregated(("k",), (Sum("x"),)))

    def read_columns(plan):
        (found,) = [node.source.schema().names for node in walk(optimized(plan)) if isinstance(node, Read)]
        return found

    assert sorted(read_columns(plan)) in (["f", "k", "x"], ["k", "x"])
    assert sorted_rows(optimized(plan)) == [{"k": 1, "sum(x)": 1}, {"k": 2, "sum(x)": 3}]
    by_user = Exchanged((read,), Aggregated(("k",), (LENGTHS,)))
    assert read_columns(by_user) == table.column_names, "a function of the user's may look at any"


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.sampled_from([pa.int64(), pa.int32(), pa.uint16(), pa.int8()]))
def test_keys_that_are_places_give_what_a_hash_table_gives(seed, kind):
    drawn = np.random.default_rng(seed)
    low = 0 if pa.types.is_unsigned_integer(kind) else -50
    keys = pa.chunked_array([pa.array(drawn.integers(low, 70, 300), kind), pa.array(drawn.integers(low, 70, 9), kind)])
    values, whole = pa.array(drawn.random(309)), pa.array(drawn.integers(-(1 << 61), 1 << 61, 309) // 309)
    kernels = [Kernel(values, "sum"), Kernel(whole, "sum"), Kernel(values, "count")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "LEAST_ROWS", 1)
        patch.setattr(dense, "LEAST_SPAN", 1)
        found = dense.group_by(keys, kernels)
    assert found is not None
    table = pa.table({"k": keys, "v": values, "w": whole})
    wanted = table.group_by("k").aggregate([("v", "sum"), ("w", "sum"), ("v", "count")]).sort_by("k")
    assert found[0].type == kind and found[0].to_pylist() == wanted["k"].to_pylist()
    assert np.allclose(found[1][0], wanted["v_sum"]) and found[1][1].to_pylist() == wanted["w_sum"].to_pylist()
    assert found[1][2].to_pylist() == wanted["v_count"].to_pylist()


@pytest.mark.parametrize(
    "keys", [[1, None, 2], [1.0, 2.0], ["a"], [0, 1 << 40], [(1 << 62) + 1, 1 << 62], []], ids=repr
)
def test_keys_of_another_kind_or_a_wide_range_are_no_places(keys, monkeypatch):
    monkeypatch.setattr(dense, "LEAST_ROWS", 1)
    assert dense.places(pa.array(keys, None if keys else pa.int64())) is None


def test_whole_numbers_of_any_size_are_added_exactly(monkeypatch):
    monkeypatch.setattr(dense, "LEAST_ROWS", 1)
    monkeypatch.setattr(dense, "LEAST_SPAN", 1)
    found = dense.group_by(pa.chunked_array([[1, 1, 2]]), [Kernel(pa.array([-(1 << 63), 1, 7]), "sum")])
    assert found is not None and found[1][0].to_pylist() == [1 - (1 << 63), 7]


@pytest.mark.parametrize("outer", [False, True])
def test_rows_match_by_places_as_by_a_hash_table(outer, monkeypatch):
    drawn = np.random.default_rng(3)
    for kind in (pa.int64(), pa.int32()):
        probe, build = (pa.array(drawn.integers(-20, high, 200), kind) for high in (60, 40))
        hashed = [list(rows) for rows in Matches([probe], [build]).pairs(outer)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dense, "LEAST_ROWS", 1)
            assert dense.codes_of_both(probe, build) is not None
            placed = [list(rows) for rows in Matches([probe], [build]).pairs(outer)]
        assert placed == hashed and len(placed[0]) > 200


def test_texts_of_few_values_are_read_as_numbers_and_given_as_texts(tmp_path):
    drawn = random.Random(1)
    few = [drawn.choice(["air", "rail", None, ""]) for _ in range(5000)]
    table = pa.table(
        {
            "few": few,
            "bytes": pa.array([None if one is None else one.encode() for one in few], pa.binary()),
            "many": [f"text {n}" for n in range(5000)],
            "n": range(5000),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2000)
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        groups = [file.metadata.row_group(index) for index in range(3)]
        assert few_values(table.schema, groups) == ["few", "bytes"]
    read = source(ParquetFormat(), str(tmp_path))
    assert rows_of(read) == table.to_pylist()
    assert [field.type for field in read.schema()] == [field.type for field in table.schema]
    narrowed = read.with_columns(["n", "few"])
    assert rows_of(narrowed) == table.select(["n", "few"]).to_pylist()


@pytest.mark.parametrize(
    "draw",
    [
        lambda rows: rows.random_sample(0.5, seed=1),
        lambda rows: rows.streaming_train_test_split(0.2, seed=1)[0],
    ],
)
def test_a_source_that_rows_are_drawn_from_is_cut_alike_on_every_machine(draw):
    def parts(dataset, cpus):
        rooms = {"1": NodeRoom(cpus, 0, 1 << 30, 1 << 40)}
        ops, _ = build_operators(dataset.plan, dataset.context, RunSettings(), rooms)
        return ops[0].parallelism

    rows = range_of(1000)
    assert parts(draw(rows), 2) == parts(draw(rows), 64) and parts(rows, 2) != parts(rows, 64)


def test_a_source_of_which_a_few_rows_are_kept_is_cut_into_fewer_parts():
    def parts(dataset, cpus=2, errors=0):
        rooms = {"1": NodeRoom(cpus, 0, 1 << 30, 1 << 40)}
        context = dataset.context.copy()
        context.max_errored_blocks = errors
        ops, _ = build_operators(dataset.plan, context, RunSettings(), rooms)
        return ops[0].parallelism

    rows = range_of(100_000_000)
    half = rows.filter(expr=col("id") % 2 == 0).with_column("x", col("id") + 1)
    for few in (rows.groupby("id").count(), half.groupby("x").sum("id"), half.sort("x").limit(3)):
        assert parts(few) == 8 and parts(few, 10) == 40 and parts(few, errors=1) == parts(rows) == 200
    assert parts(range_of(10_000_000_000).groupby("id").count()) == 80_000_000_000 // (128 << 20)
    assert parts(range_of(100_000_000, override_num_blocks=50).groupby("id").count()) == 50
    for many in (half, half.sort("x"), rows.map_batches(lambda batch: batch).groupby("id").count()):
        assert parts(many) == 200
    few_bytes = range_of(200_000)
    assert parts(few_bytes.groupby("id").count()) == parts(few_bytes)


def test_keys_that_are_texts_are_read_as_dictionaries_and_given_as_texts(tmp_path):
    table = pa.table({"k": ["a", "b", None, "a"] * 500, "g": ["x", "y"] * 1000, "x": range(2000)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=600)
    read = Read(source(ParquetFormat(), str(tmp_path)))

    def told(plan):
        (found,) = [node.source.format.encoded for node in walk(optimized(plan)) if isinstance(node, Read)]
        return found

    plan = Exchanged((read,), Aggregated(("g", "k"), (Sum("x"), Count())))
    assert told(plan) == ("g", "k")
    assert sorted_rows(optimized(plan)) == sorted_rows(plan)
    (whole,) = [part for part in interpret(optimized(plan)) if part.num_rows]
    assert whole.schema.field("k").type == pa.string() and whole.schema.field("g").type == pa.string()
    looked_at = Exchanged((Filter(read, col("g") == "x"),), Aggregated(("g", "k"), (Sum("x"),)))
    assert told(looked_at) == ("k",) and sorted_rows(optimized(looked_at)) == sorted_rows(looked_at)
    assert told(Exchanged((read,), Aggregated(("g", "k"), (Max("k"),)))) == ("g",)
    assert told(Exchanged((read,), Aggregated(("k",), (LENGTHS,)))) == ()
