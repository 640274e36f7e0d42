"""Exchanges of hpc.data as functions on tables: every row once, in the order and the blocks that are promised."""

from __future__ import annotations

import subprocess
import sys
import weakref

import pytest

pa = pytest.importorskip("pyarrow")
import numpy as np  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hpc import spi  # noqa: E402
from hpc.core import serialization  # noqa: E402
from hpc.data.block.meta import BlockMeta  # noqa: E402
from hpc.data.exec.operators.exchange import ExchangeOperator, MapBody, MergeBody, ReduceBody  # noqa: E402
from hpc.data.exec.work import Block  # noqa: E402
from hpc.data.shuffle import (  # noqa: E402
    gather,
    moved,
    ranges,
)
from hpc.data.shuffle.hashed import HashShuffle, Spread  # noqa: E402
from hpc.data.shuffle.join import Join, Joining  # noqa: E402
from hpc.data.shuffle.local import run  # noqa: E402
from hpc.data.shuffle.moved import table_of  # noqa: E402
from hpc.data.shuffle.order import SortKey, stable_argsort  # noqa: E402
from hpc.data.shuffle.partition import hash_columns  # noqa: E402
from hpc.data.shuffle.random import RandomShuffle, draws  # noqa: E402
from hpc.data.shuffle.ranges import Repartition  # noqa: E402
from hpc.data.shuffle.reorder import reordered  # noqa: E402
from hpc.data.shuffle.sort import FEW_BYTES, Sort, TopRows  # noqa: E402

NAN = float("nan")
TEN = [pa.table({"id": list(range(start, stop))}) for start, stop in ((0, 3), (3, 6), (6, 9), (9, 10))]


def ids(exchange, blocks=TEN, partitions=4, bundle=1):
    return [table.column("id").to_pylist() for table in run(exchange, [blocks], partitions, bundle)]


def flat(lists):
    return [value for some in lists for value in some]


# ---------------------------------------------------------------- sort

NULLS = [
    pa.table({"a": pa.array([3, None, 1]), "b": ["x", "y", "z"], "f": [1.0, NAN, 2.0]}),
    pa.table({"a": pa.array([2, 5, None]), "b": ["p", None, "r"], "f": [None, NAN, 0.5]}),
]


def sort(keys, boundaries=None, blocks=NULLS, partitions=3):
    return run(Sort(tuple(SortKey(*key) for key in keys), boundaries), [blocks], partitions)


def column(tables, name):
    return [value for table in tables for value in table.column(name).to_pylist()]


@pytest.mark.parametrize(
    ("keys", "name", "values"),
    [
        ([("a",)], "a", [1, 2, 3, 5, None, None]),
        ([("a", True)], "a", [5, 3, 2, 1, None, None]),
        ([("f",)], "f", [0.5, 1.0, 2.0, NAN, NAN, None]),
        ([("f", True)], "f", [2.0, 1.0, 0.5, NAN, NAN, None]),
        ([("b", True), ("a",)], "b", ["z", "y", "x", "r", "p", None]),
    ],
)
def test_nulls_and_nan_are_last_in_either_direction(keys, name, values):
    assert repr(column(sort(keys), name)) == repr(values)


def test_boundaries_cut_the_blocks_as_ray_does():
    assert [t.column("a").to_pylist() for t in sort([("a",)], (4, 2))] == [[1], [2, 3], [5, None, None]]
    assert [t.column("a").to_pylist() for t in sort([("a", True)], (2, 4))] == [[5], [3, 2], [1, None, None]]


def test_tasks_cut_blocks_at_boundaries_alone_however_large_these_are():
    plan = Sort((SortKey("a"),), (10, 5000)).plan([[]], [[]], 3)
    (piece,) = MapBody(plan, (0, 3))([pa.table({"a": np.arange(3000)})], None, (0, 0, 0), None)
    body, value = ReduceBody(plan, True, 1000), stored(piece.value)
    found = [stored(one) for part in range(3) for one in body([value], None, (part, part + 1, 0, [1]), None)]
    assert [table.num_rows for table in found] == [10, 2990, 0]


def test_a_sort_names_a_column_that_is_not_there_or_has_no_order():
    with pytest.raises(ValueError, match="no column 'zz'"):
        list(sort([("zz",)]))
    with pytest.raises(TypeError, match="have no order"):
        list(sort([("l",)], blocks=[pa.table({"l": [[1], [2]]})]))


cells = st.one_of(st.none(), st.floats(width=32), st.just(NAN), st.integers(-3, 3).map(float))
rows = st.lists(st.tuples(cells, st.one_of(st.none(), st.text("ab\0é", max_size=3)), st.integers(0, 2)), max_size=30)


def place(value, descending):
    """The order that is promised, as a key for Python's sort."""
    if value is None:
        return (2, 0)
    if value != value:
        return (1, 0)
    if isinstance(value, str):
        value = tuple(value.encode()) + (-1,)
        return (0, tuple(-byte for byte in value) if descending else value)
    return (0, -value if descending else value)


@settings(deadline=None, max_examples=80)
@given(rows=rows, cut=st.integers(0, 30), partitions=st.integers(1, 4), descending=st.tuples(*[st.booleans()] * 3))
def test_a_sort_is_that_of_python_and_keeps_equal_rows_in_order(rows, cut, partitions, descending):
    names = ("f", "s", "i")
    columns = list(zip(*rows)) or [(), (), ()]
    kinds = (pa.float64(), pa.string(), pa.int64())
    data = {name: pa.array(list(col), kind) for name, col, kind in zip(names, columns, kinds)}
    table = pa.table({**data, "row": pa.array(range(len(rows)), pa.int64())})
    cut = min(cut, len(rows))
    blocks = [table.slice(0, cut), table.slice(cut)]
    found = column(sort(list(zip(names, descending)), blocks=blocks, partitions=partitions), "row")
    key = [tuple(place(value, down) for value, down in zip(row, descending)) for row in rows]
    assert found == sorted(range(len(rows)), key=key.__getitem__)


def test_a_stable_argsort_is_that_of_numpy():
    for kind in (np.int64, np.float64, np.uint8, np.int32):
        numbers = np.random.default_rng(0).integers(0, 50, 5000).astype(kind)
        assert (stable_argsort(numbers) == np.argsort(numbers, kind="stable")).all()


# ---------------------------------------------------------------- random order


def test_a_seed_gives_one_order_however_blocks_are_bundled():
    once = ids(RandomShuffle(7))
    assert once == ids(RandomShuffle(7), bundle=3) == ids(RandomShuffle(7), [pa.concat_tables(TEN)])
    assert sorted(flat(once)) == list(range(10)) and flat(once) != list(range(10))
    assert all(flat(ids(RandomShuffle(7), partitions=parts)) == flat(once) for parts in (1, 3, 50))
    assert once != ids(RandomShuffle(8))
    assert ids(RandomShuffle()) != ids(RandomShuffle())


def test_a_row_has_its_number_whatever_task_draws_it():
    assert draws(3, 10, 5).tolist() == draws(3, 0, 15)[10:].tolist()


# ---------------------------------------------------------------- hash


def test_equal_values_hash_alike_in_every_process_and_type():
    table = pa.table({
        "i": [1, 2], "s": ["a", "a longer text, of more than eight bytes" * 9], "f": [0.5, NAN], "n": [None, 3],
        "l": [[1, 2], None], "d": pa.array(["x", None]).dictionary_encode(), "t": pa.array([1, 2], pa.timestamp("us")),
    })  # fmt: skip
    code = (
        "import sys, pyarrow as pa, pyarrow.ipc as ipc\n"
        "from hpc.data.shuffle.partition import hash_columns\n"
        "table = ipc.open_stream(sys.stdin.buffer).read_all()\n"
        "print(hash_columns(table, table.column_names).tolist())"
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    done = subprocess.run(
        [sys.executable, "-c", code], input=sink.getvalue().to_pybytes(), capture_output=True, check=True
    )
    here = hash_columns(table, table.column_names).tolist()
    assert done.stdout.decode().strip() == str(here)
    for one, other in (
        (pa.array([1, 2]), pa.array([1.0, 2.0])),
        (pa.array([1, -2], pa.int8()), pa.array([1, -2])),
        (pa.array([0.0, NAN]), pa.array([-0.0, -NAN])),
        (pa.array(["a", "bc"]), pa.array(["a", "bc"], pa.large_string())),
        (pa.array(["a", None]), pa.array(["a", None]).dictionary_encode()),
        (pa.array(["q", "a", "bc"]).slice(1), pa.array(["a", "bc"])),
    ):
        hashes = [hash_columns(pa.table({"x": array}), ["x"]).tolist() for array in (one, other)]
        assert hashes[0] == hashes[1], (one.type, other.type)


def test_hashes_differ_where_values_do():
    texts = pa.array([f"key-{n}" for n in range(5000)] + ["", "a", "a\0", "\0a", "x" * 300, "x" * 301])
    lists = pa.array([[1, 2], [2, 1], [1], [], [1, 2, 0]])
    for array in (texts, lists, pa.array(range(5000)), pa.array([n / 7 for n in range(5000)])):
        assert len(set(hash_columns(pa.table({"x": array}), ["x"]).tolist())) == len(array)


def test_partitions_are_of_like_size():
    table = pa.table({"id": range(40_000), "s": [f"{n}" for n in range(40_000)]})
    for keys in (("id",), ("s",), ("id", "s")):
        sizes = [t.num_rows for t in run(HashShuffle(keys, 16), [[table]])]
        assert min(sizes) > 2200 and max(sizes) < 2800


def test_rows_of_equal_keys_are_in_one_block_and_sorted_where_wanted():
    table = pa.table({"id": [3, 1, 2, 3, 1, None], "x": range(6)})
    parts = [t.to_pylist() for t in run(HashShuffle(("id",), 3, sorted=True), [[table, table]])]
    assert sorted(len(part) for part in parts if part) and sum(len(part) for part in parts) == 12
    for part in parts:
        keys = [row["id"] for row in part]
        assert keys == sorted(keys, key=lambda key: (key is None, key or 0))
    for key in (1, 2, 3, None):
        assert sum(any(row["id"] == key for row in part) for part in parts) == 1
    with pytest.raises(ValueError, match="no column 'zz'"):
        list(run(HashShuffle(("zz",), 3), [[table]]))


# ---------------------------------------------------------------- cuts by row numbers


def test_repartition_cuts_as_ray_does():
    assert [len(part) for part in ids(Repartition(4))] == [2, 3, 2, 3]
    assert [len(part) for part in ids(Repartition(12))] == [1] * 10 + [0, 0]
    assert flat(ids(Repartition(3))) == list(range(10))
    assert ids(Spread(4)) == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]
    assert [t.num_rows for t in run(Repartition(3), [[]])] == [0, 0, 0]


def split(bounds):
    return [sum(r.stop - r.start for r in part) for part in ranges.cut_rows([3, 3, 3, 1], bounds)]


def test_splits_are_those_of_ray():
    assert split(ranges.bounds_at(10, [2, 5])) == [2, 3, 5]
    assert split(ranges.bounds_at(10, [2, 2, 20])) == [2, 0, 8, 0]
    assert split(ranges.bounds_of_shares(10, [0.2, 0.5])) == [2, 5, 3]
    assert split(ranges.bounds_of_shares(10, [0.9, 0.09])) == [8, 1, 1]
    assert split(ranges.bounds_of_test(10, 0.25)) == [7, 3]
    assert split(ranges.bounds_of_test(10, 3)) == [7, 3]
    for parts, equal, sizes in ((3, False, [6, 3, 1]), (4, True, [2, 2, 2, 2]), (12, True, [0] * 12)):
        found = ranges.blocks_of_splits([3, 3, 3, 1], parts, equal)
        assert [sum(r.stop - r.start for r in part) for part in found] == sizes


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: ranges.bounds_at(10, []), "at least one index"),
        (lambda: ranges.bounds_at(10, [5, 2]), "sorted"),
        (lambda: ranges.bounds_at(10, [-1]), "not negative"),
        (lambda: ranges.bounds_of_shares(10, [0.5, 0.5]), "less than 1"),
        (lambda: ranges.bounds_of_shares(10, [-0.5]), "above 0"),
        (lambda: ranges.bounds_of_shares(2, [0.1, 0.1]), "no part empty"),
        (lambda: ranges.bounds_of_test(10, 1.5), "below 1"),
        (lambda: ranges.bounds_of_test(10, 11), "number of rows"),
    ],
)
def test_wrong_splits_are_told(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()


# ---------------------------------------------------------------- rows by index


def test_rows_of_columns_of_any_type():
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(24.0).reshape(6, 2, 2))
    table = pa.table({
        "i": range(6), "n": [None, 1, 2, 3, 4, 5], "s": list("abcdef"), "b": [True, False] * 3, "t": tensor,
        "l": [[1], [], None, [2], [3], [4]], "d": pa.array(list("ababab")).dictionary_encode(),
        "f": pa.array([[1, 2]] * 5 + [[3, None]], pa.list_(pa.int32(), 2)), "u": pa.array([b"ab"] * 6, pa.binary(2)),
        "h": pa.array(np.arange(6, dtype=np.float16)), "c": pa.array(range(6)).cast(pa.decimal128(30, 2)),
    })  # fmt: skip
    rows = np.array([5, 0, 3, 3])
    for given_table, at in (
        (table, rows),
        (pa.concat_tables([table.slice(0, 2), table.slice(2)]), rows),
        (table.slice(1), rows - 1),
    ):
        at = np.maximum(at, 0)
        taken = gather.take(given_table, at)
        taken.validate(full=True)
        for name in table.column_names:
            assert taken.column(name).to_pylist() == given_table.column(name).take(pa.array(at)).to_pylist(), name


def test_each_row_of_a_map_task_is_moved_once_to_the_object_of_its_group():
    rng = np.random.default_rng(0)
    blocks = [pa.table({"k": rng.integers(0, 1000, 1 << 20), "v": rng.random(1 << 20)}) for _ in range(3)]
    blocks += [block.slice(0, 10) for block in blocks]
    for exchange in (RandomShuffle(seed=1), HashShuffle(("k",)), Sort((SortKey("k"),)), Spread(8)):
        sample = pa.table({"0": range(1000), "1": range(1000), "2": np.ones(1000)})
        plan = exchange.plan([[sample]], [[]], 8)
        (piece, *others) = MapBody(plan, (0, 4, 8))(blocks, None, (0, 0, 0), None)
        assert piece.rows + sum(other.rows for other in others) == 3 * (1 << 20) + 30
        assert len(piece.value) == 4, "large blocks are cut by themselves, small ones together"
        for made, _ in piece.value:
            table = table_of(made)
            assert all(column.num_chunks == 1 for column in table.columns)
            assert table.get_total_buffer_size() <= table.nbytes + 1024, "it keeps nothing but its own rows"


def test_a_partition_is_put_in_order_straight_into_its_blocks():
    table = pa.table({"k": np.random.default_rng(1).permutation(10_000), "v": np.arange(10_000)})
    moved.LEAST_BYTES, before = 0, moved.LEAST_BYTES
    body = ReduceBody(Sort((SortKey("k"),)).plan([[]], [[]], 1), False, 50_000)
    value = [(table.slice(0, 6000), np.array([[0, 6000]])), (table.slice(6000), np.array([[0, 4000]]))]
    made = list(body([value], None, (0, 1, 0, [1]), None))
    moved.LEAST_BYTES = before
    assert all(isinstance(one, spi.PlacedTable) for one in made), "nothing is made in the task's own memory"
    blocks = [stored(one) for one in made]
    assert [block.num_rows for block in blocks] == [3125, 3125, 3750]
    assert flat(block.column("k").to_pylist() for block in blocks) == list(range(10_000))
    assert all(block.get_total_buffer_size() <= block.nbytes + 1024 for block in blocks)


# ---------------------------------------------------------------- very frequent keys


@pytest.mark.parametrize("descending", [False, True])
def test_a_sort_cuts_the_rows_of_a_very_frequent_key_into_partitions_of_like_size(descending):
    key = np.where(np.random.default_rng(1).random(8000) < 0.9, 7, np.arange(8000) % 50)
    blocks = [pa.table({"k": key[n : n + 500], "id": range(n, n + 500)}) for n in range(0, 8000, 500)]
    found = list(run(Sort((SortKey("k", descending),)), [[blocks[0].slice(0, 0), *blocks]], 8, bundle=3))
    assert len(found) == 8 and max(table.num_rows for table in found) < 2000
    expected = sorted(zip(key.tolist(), range(8000)), key=lambda row: -row[0] if descending else row[0])
    assert column(found, "id") == [row for _, row in expected], "rows with equal keys keep their order"


def stored(value):
    return serialization.loads(serialization.dumps(value).to_bytes())


def divided(exchange, *sides):
    """The bytes of the objects that come to each task of a partition, by side, where a store has 64 MiB."""
    op = ExchangeOperator("Exchange", exchange, len(sides), partitions=4, store=64 << 20, cpus=2)
    tasks = op._divided([[Block(None, BlockMeta(1, size << 20)) for size in side] for side in sides])
    return [[[block.meta.nbytes >> 20 for block in side] for side in task] for task in tasks]


def test_rows_of_a_very_frequent_key_come_to_several_tasks_where_that_may_be():
    few, many = [4, 4], [4] * 10
    assert divided(Spread(4), many) == [[[4, 4]]] * 5
    assert divided(HashShuffle(("k",), 4), few) == [[few]], "one task where they fit"
    assert divided(HashShuffle(("k",), 4), many) == [[[4, 4]]] * 5
    assert divided(HashShuffle(("k",), 4, sorted=True), many) == [[many]], "a group comes whole to its function"

    def join(kind, left, right):
        return divided(Join(Joining(kind, ("k",), ("k",), "_l"), 4), left, right)

    assert join("inner", many, few) == join("left_anti", many, few) == [[[4, 4], few]] * 5
    assert join("inner", few, many) == join("right_outer", few, many) == [[few, [4, 4]]] * 5
    assert join("full_outer", few, many) == [[few, many]], "each row must see all rows of the other side"


# ---------------------------------------------------------------- very many objects


def test_objects_of_map_tasks_that_follow_each_other_are_merged_in_the_order_of_their_rows():
    rng = np.random.default_rng(0)
    blocks = [pa.table({"k": rng.integers(0, 50, 40_000), "id": np.arange(40_000) + 40_000 * n}) for n in range(4)]
    plan = HashShuffle(("k",)).plan([], [], 6)
    body = MapBody(plan, (0, 3, 6))
    made = [[stored(piece.value) for piece in body([one], None, (0, 0, 0), None)] for one in blocks]
    reduce = ReduceBody(plan, True, None)
    for group in (0, 1):
        values = [some[group] for some in made]
        merged = [stored(piece.value) for piece in MergeBody()(values[:3], None, None, None)]
        assert len(merged) == 1 and len(merged[0]) == 1, "one table of all"
        for partition in range(3 * group, 3 * group + 3):
            note = (partition, partition + 1, 3 * group)
            (apart,) = reduce(values, None, (*note, [4]), None)
            (together,) = reduce([*merged, values[3]], None, (*note, [2]), None)
            assert apart == together and apart.num_rows


def test_tables_of_other_columns_stay_apart_in_a_merged_object():
    ends = np.array([[0, 2]])
    some, none = pa.table({"k": [1, 2]}), (pa.table({}), np.array([[0, 0]]))
    ((value, rows, _, _),) = MergeBody()(
        [[(some, ends)], [none, (pa.table({"k": [0.5, 1.5]}), ends)]], None, None, None
    )
    assert rows == 4 and len(value) == 3
    ((value, rows, _, _),) = MergeBody()([[(some, ends)], [none, (some, ends)]], None, None, None)
    assert rows == 4 and [(table.to_pydict(), at.tolist()) for table, at in value] == [({"k": [1, 2, 1, 2]}, [[0, 4]])]
    ((value, rows, _, _),) = MergeBody()([[none], [none]], None, None, None)
    assert rows == 0 and len(value) == 1


class Host:
    """Takes what an operator lets go."""

    def release(self, block):
        self.released = [*getattr(self, "released", []), block]

    forgo = stop_inputs = emit = lambda self, block: None


def maps_done(op, count):
    """Tasks end one by one until there are none: the most objects that there were at a time, and what was run."""
    there, most, run = 0, 0, []
    while op.waiting():
        work = op.take_work(1)
        if work.body == "reduce":
            return most, run
        run.append(work.body)
        (part,) = work.parts
        for _ in range(count if work.body == "map" else 1):
            work.seen += 1
            there += 1
            op.made(work, Block(None, BlockMeta(1, 1 << 20)))
        most = max(most, there)
        there -= len(part.blocks) if work.body == "merge" else 0
        op.part_over(work, part)
    return most, run


@pytest.mark.parametrize("most_objects", [10**6, 200])
def test_objects_are_merged_where_map_tasks_and_groups_are_very_many(most_objects):
    op = ExchangeOperator(
        "Exchange", HashShuffle(("k",)), 1, nodes=[str(n) for n in range(20)], cpus=80, store=1 << 40,
        estimate=400 << 20, most_objects=most_objects,
    )  # fmt: skip
    op.host = Host()
    for _ in range(400):
        op.accept(0, Block(None, BlockMeta(1, 1 << 20)))
    op.close_port(0)
    most, run = maps_done(op, 20)
    if most_objects > 400 * 20:
        assert most >= 400 * 20 * 0.5 and "merge" not in run
    else:
        assert most < 20 * 100 and run.count("merge") >= 20
    seen = [part.blocks for part in op._parts]
    assert op.waiting() and len({id(block) for some in seen for block in some}) <= max(most_objects * 2, most)


def test_a_sort_of_few_bytes_is_one_task_without_samples():
    for nbytes, bodies in ((FEW_BYTES // 2, ["reduce"]), (FEW_BYTES, ["sample", "sample"])):
        op = ExchangeOperator("Sort", Sort((SortKey("id", True),)).limited(4), 1, cpus=2, store=1 << 40)
        op.host = Host()
        for _ in range(2):
            op.accept(0, Block(None, BlockMeta(3, nbytes)))
        op.close_port(0)
        works = [op.take_work(1) for _ in range(op.waiting())]
        assert [work.body for work in works] == bodies
        if bodies == ["reduce"]:
            made = op.bodies["reduce"](TEN[:2], None, works[0].parts[0].note, None)
            assert [table.column("id").to_pylist() for table in made] == [[5, 4, 3], [2]], "blocks for both CPUs"


def test_a_sort_of_no_rows_has_the_columns():
    for blocks in ([], [TEN[0].slice(0, 0)]):
        op = ExchangeOperator("Sort", Sort((SortKey("id"),)), 1, cpus=2, store=1 << 40)
        op.host = Host()
        for _ in blocks:
            op.accept(0, Block(None, BlockMeta(0, 0)))
        op.close_port(0)
        work = op.take_work(1)
        made = list(op.bodies["reduce"](blocks, None, work.parts[0].note, None))
        assert [table.column_names for table in made] == [["id"]] * len(blocks)


def test_first_rows_are_those_of_the_sort():
    rows = (([2, 1, 2], [0, 1, 2]), ([None, 1], [3, 4]), ([], []))
    tables = [pa.table({"k": pa.array(k, pa.int64()), "n": pa.array(n, pa.int64())}) for k, n in rows]
    keys = (SortKey("k"),)
    assert [t.column("n").to_pylist() for t in TopRows(keys, 3)(iter(tables[:2]), None)] == [[1, 4, 0]]
    assert [t.num_rows for t in TopRows(keys, 0)(iter(tables), None)] == [0]
    assert [t.column_names for t in TopRows(keys, 3)(iter(tables[2:]), None)] == [["k", "n"]]
    assert list(TopRows(keys, 3)(iter(()), None)) == []
    with pytest.raises(ValueError, match="no column 'x'"):
        list(TopRows((SortKey("x"),), 3)(iter(tables), None))


def test_first_rows_are_copied_as_often_as_their_number_has_come_and_not_with_each_table(monkeypatch):
    numbers = np.random.default_rng(1).permutation(3000)
    tables = [pa.table({"k": numbers[at : at + 10] // 2, "n": numbers[at : at + 10]}) for at in range(0, 3000, 10)]
    taken, take = [], gather.take
    monkeypatch.setattr(gather, "take", lambda table, rows: taken.append(len(rows)) or take(table, rows))
    (found,) = TopRows((SortKey("k"),), 500)(iter(tables), None)
    assert sum(taken) <= 2 * 3000, "they were copied with each table before: 150,000 rows"
    wanted = pa.table({"k": numbers // 2, "n": numbers})
    assert found.equals(take(wanted, np.argsort(numbers // 2, kind="stable")[:500]).combine_chunks())


def test_first_rows_of_large_tables_are_not_kept_beside_them():
    live, wide = [], np.zeros((4, 1 << 18))

    def tables():
        for number in range(40):
            live.append(weakref.ref(table := pa.table({"k": [40 - number] * 4, "x": list(wide)})))
            yield table
            del table
            assert sum(one() is not None for one in live) <= 3

    (found,) = TopRows((SortKey("k"),), 4)(tables(), None)
    assert found.column("k").to_pylist() == [1] * 4


@pytest.mark.parametrize("most", [0, 5, 700, 10_000])
@pytest.mark.parametrize("target_bytes", [None, 1000, 20_000])
@pytest.mark.parametrize("texts", [False, True])
def test_first_rows_of_partitions_of_many_blocks_come_in_blocks_of_these_rows_alone(most, target_bytes, texts):
    numbers = np.arange(2000)[::-1]
    table = pa.table({"k": numbers, **({"s": ["x" * (number % 50) for number in numbers]} if texts else {})})
    merger = Sort((SortKey("k"),)).limited(most).few([[]]).merger
    blocks = [table_of(one) for one in reordered(merger, [table], [np.array([[0, 1200, 2000]])], 0, target_bytes)]
    expected = [*range(800, 2000)][:most] + [*range(800)][:most]
    assert [row for one in blocks for row in one.column("k").to_pylist()] == expected
    assert all(one.num_rows for one in blocks) if most else len(blocks) == 1
    assert target_bytes is None or all(one.nbytes < 2 * target_bytes for one in blocks)


def test_a_block_that_does_not_fit_the_store_is_cut_into_several():
    metas = [[BlockMeta(100, 10 << 20) for _ in range(8)]]
    whole = Repartition(2).fitted(200 << 20, 8 << 20, 1).plan([], metas, 2)
    assert [sum(one.stop - one.start for one in some) for (some,) in whole.ranges] == [400, 400]
    cut = Repartition(2).fitted(64 << 20, 8 << 20, 1).plan([], metas, 2)
    assert [sum(one.stop - one.start for one in some) for (some,) in cut.ranges] == [80] * 10 and cut.merger.parts == 10
