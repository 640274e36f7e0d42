"""Rows of a map task are cut in pieces that fit caches, and put in order by tasks of several partitions: each row comes
once, as it was, and where its random number or its key says."""

from __future__ import annotations

import contextlib
import itertools
from unittest import mock

import pytest

pa = pytest.importorskip("pyarrow", reason="hpc.data needs pyarrow")

import numpy as np  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hpc.core import serialization  # noqa: E402
from hpc.data.block import build  # noqa: E402
from hpc.data.exec.operators.exchange import MapBody, MergeBody, ReduceBody  # noqa: E402
from hpc.data.shuffle import gather, moved, partition, reorder  # noqa: E402
from hpc.data.shuffle.exchange import Parts, Place, packed  # noqa: E402
from hpc.data.shuffle.order import SortKey  # noqa: E402
from hpc.data.shuffle.partition import cut, cut_in_pieces, ends_of  # noqa: E402
from hpc.data.shuffle.random import RandomShuffle, draws  # noqa: E402
from hpc.data.shuffle.reorder import Pieces  # noqa: E402
from hpc.data.shuffle.sort import Sort  # noqa: E402
from hpc.data.transform.base import TaskContext  # noqa: E402


@contextlib.contextmanager
def small(piece=4, run=1, run_bytes=64):
    """Pieces of few rows, and few bytes that are brought together."""
    with (
        mock.patch.multiple(partition, PIECE_ROWS=piece, LEAST_RUN=run),
        mock.patch.object(reorder, "RUN_BYTES", run_bytes),
        mock.patch.object(moved, "LEAST_BYTES", 0),
    ):
        yield


def stored(value):
    return serialization.loads(serialization.dumps(value).to_bytes())


def exchanged(exchange, blocks, parts=6, groups=2, tasks=3, target=None, merged=False, rows=None):
    """The blocks of an exchange, as map tasks of a block each and reduce tasks of some partitions make them."""
    samples = [some for some in (exchange.sample(0, block, None) for block in blocks) if some is not None]
    plan = exchange.plan([samples], [[]], parts)
    bounds = [group * plan.parts // groups for group in range(groups + 1)]
    body, objects, row = MapBody(plan, bounds), [[] for _ in range(groups)], 0
    for number, block in enumerate(blocks):
        for group, piece in enumerate(body([block], None, (0, number, row), None)):
            objects[group].append(stored(piece.value))
            assert piece.rows == sum(len(table) for table, _ in objects[group][-1])
        row += block.num_rows
    if merged:
        objects = [[stored(piece.value) for piece in MergeBody()(some, None, None, None)] for some in objects]
    reduce, found = ReduceBody(plan, exchange.exact, target, rows), []
    for some, first, last in zip(objects, bounds, bounds[1:]):
        for task in range(tasks):
            begin, end = (first + (last - first) * at // tasks for at in (task, task + 1))
            if begin < end:
                note = (begin, end, first, [len(some)])
                found += [stored(one) for one in reduce(some, None, note, TaskContext(op="", index=0))]
    return found


def all_kinds(rows, start=0):
    """Columns of many types, some with nulls. ``id`` is the number of the row."""
    rng = np.random.default_rng(start)
    numbers = np.arange(start, start + rows)
    nulls = [None if number % 3 == 0 else number for number in numbers.tolist()]
    return pa.table({
        "id": numbers, "n": pa.array(nulls, pa.int32()), "b": pa.array([bool(n % 2) for n in numbers], pa.bool_()),
        "u1": pa.array(numbers % 200, pa.uint8()), "f2": rng.random(rows).astype(np.float16),
        "s": pa.array([None if n is None else "x" * (n % 9) for n in nulls], pa.string()),
        "S": pa.array([str(n) for n in numbers], pa.large_string()),
        "d": pa.array([f"k{n % 4}" for n in numbers], pa.string()).dictionary_encode(),
        "dec": pa.array(numbers).cast(pa.decimal128(30, 2)), "when": pa.array(numbers, pa.timestamp("us", tz="UTC")),
        "fixed": pa.array([b"%05d" % n for n in numbers], pa.binary(5)), "none": pa.nulls(rows),
        "l": pa.array([list(range(n % 4)) for n in numbers], pa.list_(pa.int16())),
        "st": pa.array([{"a": n, "b": None} for n in nulls], pa.struct([("a", pa.int64()), ("b", pa.string())])),
        "m": pa.array([[("k", int(n))] for n in numbers], pa.map_(pa.string(), pa.int64())),
        "fl": pa.array([[n, None] for n in numbers], pa.list_(pa.int32(), 2)),
        "t": build.table({"t": np.arange(4.0 * rows).reshape(rows, 2, 2)}, "f").column(0),
        "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"%016d" % n for n in numbers], pa.binary(16))),
    }, metadata={"of": "the table"})  # fmt: skip


def by_id(tables):
    table = pa.concat_tables(tables)
    return table.take(pa.array(np.argsort(table.column("id").to_numpy(), kind="stable")))


# ---------------------------------------------------------------- pieces


@settings(deadline=None, max_examples=200)
@given(
    numbers=st.lists(st.integers(0, 9), max_size=40), piece=st.integers(1, 50), run=st.integers(1, 3),
    parts=st.integers(10, 60), data=st.data(),
)  # fmt: skip
def test_pieces_have_each_row_once_in_the_order_of_partitions(numbers, piece, run, parts, data):
    ids = np.array(numbers, np.uint8)
    table = pa.table({"row": np.arange(len(ids))})
    with small(piece, run):
        found = cut_in_pieces(
            table, parts, lambda a, b: (np.argsort(ids[a:b], kind="stable"), ends_of(ids[a:b], parts))
        )
    first = data.draw(st.integers(0, parts))
    last = data.draw(st.integers(first, parts))
    rows, ends = found.range(first, last).column("row").to_numpy(), found.ends(first, last)
    assert ends.shape[1] == last - first + 1 and ends[0, 0] == 0 and ends[-1, -1] == len(rows)
    assert (ends[1:, 0] == ends[:-1, -1]).all(), "pieces follow each other"
    step = max(piece, run * parts)
    for at, some in enumerate(ends):
        for place, (start, stop) in enumerate(itertools.pairwise(some), first):
            inside = range(at * step, min(len(ids), (at + 1) * step))
            assert rows[start:stop].tolist() == [row for row in inside if ids[row] == place]
    whole = cut(table, ids, parts)
    assert sorted(found.range(0, parts).column("row").to_pylist()) == list(range(len(ids)))
    assert all(
        sorted(found.part(p).column("row").to_pylist()) == whole.part(p).column("row").to_pylist() for p in range(parts)
    )


def test_where_partitions_lie_is_told_by_pieces():
    table = pa.table({"row": np.arange(5)})
    plain = Parts(table, np.array([0, 2, 2, 5]))
    assert plain.ends(1, 3).tolist() == [[0, 0, 3]] and plain.range(1, 3).column("row").to_pylist() == [2, 3, 4]
    assert packed(np.array([[3, 4, 6], [9, 9, 10]])).tolist() == [[0, 1, 3], [3, 3, 4]]
    pieces = Pieces.of([np.array([[0, 1, 3], [3, 3, 4]]), np.array([[2, 2, 4]])])
    assert pieces.parts == 2 and pieces.counts.tolist() == [1, 5]
    assert pieces.spans(0, 2) == [(0, 0, 3), (0, 3, 4), (1, 2, 4)] and pieces.spans(0, 1) == [(0, 0, 1)]
    assert [rows.tolist() for rows in pieces.rows(0, 2)] == [[0], [1, 2, 3, 4, 5]]
    assert [rows.tolist() for rows in pieces.rows(1, 2)] == [[0, 1, 2, 3, 4]]


# ---------------------------------------------------------------- from end to end


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4), parts=st.integers(1, 50), groups=st.integers(1, 3),
    tasks=st.integers(1, 3), piece=st.integers(1, 40), seed=st.one_of(st.none(), st.integers(0, 9)),
    target=st.one_of(st.none(), st.integers(50, 5000)), merged=st.booleans(),
    rows=st.one_of(st.none(), st.integers(1, 20)),
)  # fmt: skip
def test_a_shuffle_keeps_rows_of_all_types(sizes, parts, groups, tasks, piece, seed, target, merged, rows):
    starts = np.cumsum([0, *sizes])
    blocks = [all_kinds(size, int(start)) for size, start in zip(sizes, starts)]
    with small(piece):
        found = exchanged(RandomShuffle(seed), blocks, parts, min(groups, parts), tasks, target, merged, rows)
    assert all(table.schema.equals(blocks[0].schema, check_metadata=True) for table in found)
    for table in found:
        table.validate(full=True)
    if sum(sizes):
        expected = by_id(blocks)
        assert by_id(found).to_pylist() == expected.to_pylist()
    if seed is not None:
        numbers = draws(seed, 0, sum(sizes)) >> np.uint64(32)
        order = [row for table in found for row in table.column("id").to_pylist()]
        assert order == np.argsort(numbers, kind="stable").tolist(), "the seed and the places of rows alone tell it"


@settings(deadline=None, max_examples=60)
@given(
    keys=st.lists(st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=30), min_size=1, max_size=4),
    parts=st.integers(1, 12), piece=st.integers(1, 40), descending=st.booleans(), merged=st.booleans(),
)  # fmt: skip
def test_a_sort_in_pieces_keeps_equal_rows_in_order(keys, parts, piece, descending, merged):
    starts = np.cumsum([0, *map(len, keys)])
    blocks = [
        pa.table(
            {
                "k": pa.array(some, pa.int64()),
                "id": np.arange(start, start + len(some)),
                "s": pa.array(["x"] * len(some), pa.string()),
            }
        )
        for some, start in zip(keys, starts)
    ]
    with small(piece):
        found = exchanged(Sort((SortKey("k", descending),)), blocks, parts, 1, 2, 100, merged)
    whole = pa.concat_tables(blocks)
    rows = sorted(
        whole.to_pylist(), key=lambda row: (row["k"] is None, -(row["k"] or 0) if descending else row["k"] or 0)
    )
    assert [row for table in found for row in table.to_pylist()] == rows


def test_columns_that_differ_are_brought_together():
    blocks = [pa.table({"id": np.arange(9), "x": np.arange(9)}), pa.table({"id": np.arange(9, 20), "x": np.ones(11)})]
    with small():
        found = exchanged(RandomShuffle(1), blocks)
    assert by_id([table.select(["id"]) for table in found]).column("id").to_pylist() == list(range(20))
    with small():
        found = exchanged(RandomShuffle(1), [pa.table({}), *[block.select(["id"]) for block in blocks]])
    assert by_id(found).column("id").to_pylist() == list(range(20))


def test_a_random_order_of_pieces_is_uniform():
    """Pearson's test of where each row comes, and of which row follows each."""
    rows, seeds = 10, 800
    places, follows = np.zeros((rows, rows)), np.zeros((rows, rows))
    table = pa.table({"id": np.arange(rows)})
    with small(3):
        for seed in range(seeds):
            body = MapBody(RandomShuffle(seed).plan(None, None, 4), [0, 4])
            (piece,) = body([table], None, (0, 0, 0), None)
            reduce = ReduceBody(body.partitioner, False, None)
            (made,) = reduce([stored(piece.value)], None, (0, 4, 0, [1]), None)
            order = stored(made).column("id").to_numpy()
            places[order, np.arange(rows)] += 1
            follows[order[:-1], order[1:]] += 1
    expected = seeds / rows
    assert ((places - expected) ** 2 / expected).sum() < limit((rows - 1) ** 2)
    apart = ~np.eye(rows, dtype=bool)
    assert ((follows - expected)[apart] ** 2 / expected).sum() < limit(rows * (rows - 1))


def limit(freedom):
    """The sum of squares that a uniform order exceeds in one of 30,000 tests, about."""
    return freedom + 4 * np.sqrt(2 * freedom)


def test_a_task_takes_each_column_once_for_many_partitions():
    table = pa.table({"id": np.arange(4000), "x": np.arange(4000.0)})
    with small(1000, 1, 1 << 30), mock.patch.object(moved.np, "take", wraps=np.take) as take:
        found = exchanged(RandomShuffle(1), [table], 16, 1, 1)
        taken = [len(call.args[1]) for call in take.call_args_list if len(call.args[1]) >= 1000]
    assert sum(map(len, found)) == 4000
    assert sorted(taken) == [1000] * 12 + [4000] * 2, "three columns of four pieces to the object, two to the block"


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(1, 5), st.integers(1, 20), st.integers(1, 40), st.data())
def test_rows_of_pieces_are_the_same_in_the_store_as_in_memory(rows, parts, piece, near, data):
    table = all_kinds(rows)
    first, last = sorted(data.draw(st.lists(st.integers(0, parts), min_size=2, max_size=2)))
    plan = RandomShuffle(3).plan([], [], parts)
    with small(piece), mock.patch.object(moved, "NEAR_ROWS", near):
        found = plan.split(Place(0, 0, 0), iter([table]), None)
        made = [stored(one.stored(first, last)) for one in found]
        kept = [one.range(first, last) for one in found]
    for one, other in zip(made, kept):
        assert one.schema == other.schema and one.to_pylist() == other.to_pylist()
    if first == 0 and last == parts:
        assert sorted(row["id"] for one in made for row in one.to_pylist()) == list(range(rows))


def test_texts_of_neighbouring_pieces_are_taken_where_they_lie():
    table = pa.table({"id": np.arange(100), "s": [str(number) for number in range(100)]})
    with small(10), mock.patch.object(gather.pa, "concat_arrays", wraps=pa.concat_arrays) as joined:
        (found,) = RandomShuffle(3).plan([], [], 4).split(Place(0, 0, 0), iter([table]), None)
        made = stored(found.stored(0, 4))
    assert joined.call_count == 0
    assert made["s"].to_pylist() == [str(number) for number in made["id"].to_pylist()] != table["s"].to_pylist()


def test_columns_are_looked_up_once_for_all_blocks_of_a_task():
    """A task of many sources gives several blocks: each column of the sources is looked at once."""
    sources = [pa.table({"key": np.arange(40)[::-1] + 40 * at, "value": np.arange(40) / 7}) for at in range(5)]
    merger = Sort((SortKey("key"),)).plan([[]], [[]], 1)
    ends = [np.array([[0, table.num_rows]]) for table in sources]
    with small(), mock.patch.object(gather, "all_values", wraps=gather.all_values) as looked:
        made = [moved.table_of(one) for one in reorder.reordered(merger, sources, ends, 0, 160, here=True)]
    assert len(made) > 5
    assert looked.call_count == 2
    assert pa.concat_tables(made)["key"].to_pylist() == list(range(200))


def test_values_of_lists_and_of_missing_tables_are_seen():
    lists = pa.FixedSizeListArray.from_arrays(pa.array(range(6), pa.int32()), 2)
    seen = gather.all_values([lists.slice(1), None], lists.type)
    assert seen is not None and [one.tobytes() for one in seen] == [np.arange(2, 6, dtype=np.int32).tobytes(), b""]
    assert gather.all_values([pa.array([[1, 2], None], pa.list_(pa.int32(), 2))], lists.type) is None
    assert gather.all_values([pa.array(["a"])], pa.string()) is None
    (part,) = gather.all_values([pa.array([1, 2, 3], pa.int16()).slice(1)], pa.int16()) or [None]
    assert part is not None and part.tolist() == [2, 3]
