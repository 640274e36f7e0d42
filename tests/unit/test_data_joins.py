"""Joins of hpc.data as functions on tables: the rows and columns of Ray Data 2.60, whatever the blocks are."""

from __future__ import annotations

import pytest

pa = pytest.importorskip("pyarrow")
import numpy as np  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hpc.data.exec.operators.joining import JoinedBody  # noqa: E402
from hpc.data.shuffle import gather  # noqa: E402
from hpc.data.shuffle.exchange import Gather  # noqa: E402
from hpc.data.shuffle.join import TYPES, Join, Joining  # noqa: E402
from hpc.data.shuffle.local import run  # noqa: E402

LEFT = [
    pa.table({"id": pa.array([1, 2, 3, None, 2]), "v": list("abcde")}),
    pa.table({"id": pa.array([5]), "v": ["f"]}),
]
RIGHT = [pa.table({"id": pa.array([2, 3, 4, None, 2]), "v": list("PQRST")})]
KEYED = [pa.table({"key": [2, 3, 4], "w": [1.0, 2.0, 3.0]})]


def join(kind, left, right, on, right_on=None, suffixes=("_l", "_r"), partitions=3):
    exchange = Join(Joining(kind, on, right_on or on, *suffixes), partitions)
    tables = list(run(exchange, [left, right], partitions))
    return tables[0].column_names, sorted((tuple(row.values()) for t in tables for row in t.to_pylist()), key=repr)


def by_python(kind, left, right):
    """The rows of a join of pairs (key, value), value by value."""
    pairs = [(one, r) for one in left for r in right if one[0] is not None and one[0] == r[0]]
    lone_left = [one for one in left if not any(one is left_row for left_row, _ in pairs)]
    lone_right = [r for r in right if not any(r is right_row for _, right_row in pairs)]
    if kind in ("left_semi", "left_anti"):
        return lone_left if kind == "left_anti" else [one for one in left if one not in lone_left]
    if kind in ("right_semi", "right_anti"):
        return lone_right if kind == "right_anti" else [r for r in right if r not in lone_right]
    rows = [(one[0], one[1], r[1]) for one, r in pairs]
    if kind in ("left_outer", "full_outer"):
        rows += [(one[0], one[1], None) for one in lone_left]
    if kind in ("right_outer", "full_outer"):
        rows += [(r[0], None, r[1]) for r in lone_right]
    return [(v, k, w) for k, v, w in rows] if kind == "right_outer" else rows


side = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 4))), max_size=8)


@settings(deadline=None, max_examples=60)
@given(kind=st.sampled_from(TYPES), left=side, right=side, cut=st.integers(0, 8), partitions=st.integers(1, 3))
def test_rows_are_those_of_pairwise_comparison(kind, left, right, cut, partitions):
    left = [(key, f"l{number}") for number, (key,) in enumerate(left)]
    right = [(key, f"r{number}") for number, (key,) in enumerate(right)]
    blocks = []
    for rows in (left, right):
        keys, values = pa.array([k for k, _ in rows], pa.int64()), pa.array([v for _, v in rows], pa.string())
        table = pa.table({"id": keys, "v": values})
        blocks.append([table.slice(0, cut), table.slice(min(cut, len(rows)))])
    # With one partition a side goes whole to the other; with many, both go by their hash.
    for parts in (1, partitions, 50):
        found = join(kind, *blocks, ("id",), partitions=parts)[1]
        assert found == sorted(by_python(kind, left, right), key=repr)


def test_columns_are_those_of_ray():
    names = {kind: join(kind, LEFT, RIGHT, ("id",))[0] for kind in TYPES}
    assert names["inner"] == names["left_outer"] == names["full_outer"] == ["id", "v_l", "v_r"]
    assert names["right_outer"] == ["v_l", "id", "v_r"]
    assert names["left_semi"] == names["right_anti"] == ["id", "v"]
    names = {kind: join(kind, LEFT, KEYED, ("id",), ("key",), (None, None))[0] for kind in TYPES}
    assert names["inner"] == names["full_outer"] == ["id", "v", "w"]
    assert names["right_outer"] == ["v", "key", "w"]
    assert names["right_semi"] == ["key", "w"]
    assert join("inner", LEFT, RIGHT, ("id",), suffixes=(None, "_r"))[0] == ["id", "v", "v_r"]


def test_a_payload_may_be_of_any_type_and_keys_of_several():
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(6.0).reshape(3, 2))
    right = pa.table({"a": [1, 1, 2], "b": ["x", "y", "x"], "t": tensor, "l": [[1], None, [2, 3]]})
    left = pa.table({"a": pa.array([1, 2, 3], pa.int32()), "b": pa.array(["y", "x", "x"]).dictionary_encode()})
    names, rows = join("left_outer", [left], [right], ("a", "b"), suffixes=(None, None))
    assert names == ["a", "b", "t", "l"]
    plain = sorted(((a, b, None if t is None else np.asarray(t).tolist(), some) for a, b, t, some in rows), key=repr)
    assert plain == [(1, "y", [2.0, 3.0], None), (2, "x", [4.0, 5.0], [2, 3]), (3, "x", None, None)]


def test_nan_keys_are_equal_and_null_keys_are_not():
    left = pa.table({"id": pa.array([float("nan"), -0.0, None])})
    assert len(join("inner", [left], [left], ("id",))[1]) == 2


def test_a_small_side_goes_whole_to_each_part_of_the_other():
    class Meta:
        def __init__(self, nbytes):
            self.rows, self.nbytes = 10, nbytes

    def plan(kind, left, right, partitions=4, **room):
        exchange = Join(Joining(kind, ("id",), ("id",), "_l"), partitions)
        exchange = exchange.fitted(**room) if room else exchange
        return exchange.plan([[], []], [[Meta(size) for size in side] for side in (left, right)], partitions)

    big, small = [100 << 20] * 8, [10 << 20]
    assert isinstance(plan("inner", big, small), Gather)
    assert isinstance(plan("left_anti", big, small), Gather)
    assert isinstance(plan("right_outer", small, big), Gather)
    for kind, left, right in (
        ("right_outer", big, small), ("full_outer", big, small), ("left_semi", small, big), ("inner", big, big),
    ):  # fmt: skip
        assert not isinstance(plan(kind, left, right), Gather), kind
    parts = plan("inner", big, small).ranges
    assert sorted(r.block for sides in parts for r in sides[0]) == list(range(8)) and len(parts) == 4
    assert all(len(sides[1]) == 1 for sides in parts)
    with_room = {"store": 80 << 20, "task_bytes": 100 << 20, "nodes": 1}
    assert len(plan("inner", big, small, **with_room).ranges) == 8, "no task has more of it than it should"
    with_room["store"] = 39 << 20
    assert not isinstance(plan("inner", big, small, **with_room), Gather), "beside the parts a store has no room for it"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("cross", LEFT, RIGHT, ("id",)), ValueError, "none of inner"),
        (("inner", LEFT, RIGHT, ()), ValueError, "one or more"),
        (("inner", LEFT, KEYED, ("id",), ("key", "w")), ValueError, "as many keys on both sides"),
        (("inner", LEFT, KEYED, ("id",)), ValueError, "no column 'id'"),
        (
            ("inner", LEFT, RIGHT, ("id",), None, (None, None)),
            ValueError,
            r"both sides of the join have columns \['v'\]",
        ),
        (("inner", LEFT, RIGHT, ("id",), None, ("_x", "_x")), ValueError, "twice"),
        (("inner", LEFT, KEYED, ("v",), ("key",)), TypeError, "column 'v' of the left is string"),
    ],
)
def test_wrong_joins_are_told(arguments, error, words):
    with pytest.raises(error, match=words):
        join(*arguments)


@settings(max_examples=80, deadline=None, database=None, derandomize=True)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.data())
def test_few_rows_of_several_chunks_are_taken_of_each(lengths, data):
    starts = np.cumsum([0, *lengths])
    whole = pa.table({"n": np.arange(sum(lengths)), "t": pa.array([f"t{n}" for n in range(sum(lengths))], pa.string())})
    table = pa.concat_tables(whole.slice(start, length) for start, length in zip(starts, lengths))
    wanted = data.draw(st.lists(st.integers(-1, max(0, table.num_rows - 1)), max_size=table.num_rows // 2 + 1))
    rows = np.array(sorted(wanted) if data.draw(st.booleans()) else wanted, np.int64)
    found = gather.take_few(table, rows)
    is_few = len(lengths) > 1 and 2 * len(rows) <= table.num_rows
    ascends = list(rows) == sorted(rows) and (not len(rows) or rows[0] >= 0)
    assert (found is not None) == (is_few and ascends)
    if found is not None:
        assert found.schema == table.schema and found.to_pylist() == [{"n": n, "t": f"t{n}"} for n in rows.tolist()]


def test_a_table_whose_columns_are_cut_otherwise_is_brought_together_first():
    columns = [pa.chunked_array([[1, 2], [3, 4]]), pa.chunked_array([[1], [2, 3, 4]])]
    assert gather.take_few(pa.table(columns, ["a", "b"]), np.array([1])) is None


def test_rows_that_all_have_one_match_are_views():
    left, right = pa.table({"id": range(5000), "x": range(5000)}), pa.table({"id": range(5000)[::-1], "y": range(5000)})
    (found,) = Joining("inner", ("id",), ("id",)).tables(left, right)
    assert found["x"].chunk(0).buffers()[1].address == left["x"].chunk(0).buffers()[1].address
    assert found["y"].to_pylist() == list(range(5000))[::-1]
    (found,) = Joining("inner", ("id",), ("id",)).tables(left, right.slice(1))
    assert found["x"].to_pylist() == list(range(4999))
    (found,) = Joining("left_outer", ("id",), ("id",)).tables(left, right.slice(1))
    assert found["y"].to_pylist() == [*range(1, 5000)][::-1] + [None]


class Held:
    """A part of a source whose rows are there."""

    def __init__(self, tables):
        self.tables = tables

    def read(self, task):
        return iter(self.tables)


@settings(deadline=None, max_examples=100)
@given(kind=st.sampled_from(TYPES), left=side, right=side, cut=st.integers(0, 8), read=st.integers(0, 1))
def test_tasks_that_read_a_side_give_the_rows_of_the_join(kind, left, right, cut, read):
    exchange = Join(Joining(kind, ("id",), ("id",), "_l", "_r"), 2)
    if not exchange.may_read(read):
        return
    sides = [
        pa.table({"id": pa.array([key for (key,) in rows], pa.int64()), "v": pa.array(range(len(rows)), pa.int64())})
        for rows in (left, right)
    ]
    body = JoinedBody((), exchange.joining, read, (), None)
    parts = [sides[read].slice(0, cut), sides[read].slice(cut)]
    found = [table for part in parts for table in body([sides[1 - read]], Held([part, part.slice(0, 0)]), None, None)]
    (expected,) = exchange.joining.tables(*sides)
    assert all(table.schema == expected.schema for table in found)
    assert (
        pa.concat_tables(found)
        .sort_by([(name, "ascending") for name in expected.column_names])
        .equals(expected.sort_by([(name, "ascending") for name in expected.column_names]))
    )
    if read == 0 or kind.startswith("right"):
        assert pa.concat_tables(found).to_pylist() == expected.to_pylist(), "the order of what is read is kept"


def test_an_order_that_is_the_same_in_all_sessions_needs_an_exchange():
    inner = Join(Joining("inner", ("id",), ("id",)), 2)
    assert inner.may_read(0) and inner.may_read(1) and not inner.steady().may_read(0)
    assert not Join(Joining("full_outer", ("id",), ("id",)), 2).may_read(0)
    left = Join(Joining("left_semi", ("id",), ("id",)), 2)
    assert left.may_read(0) and not left.may_read(1)
    assert inner.goes_to_reads(1 << 20, 100 << 20, 16) and not inner.goes_to_reads(65 << 20, 10 << 30, 16)
    assert not inner.goes_to_reads(50 << 20, 100 << 20, 16), "it would be looked at 16 times"


@pytest.mark.parametrize(("left", "right", "kind"), [
    (pa.array([1, 2], pa.int32()), pa.array([2, 1 << 40]), pa.int64()),
    (pa.array([1.0, 2.0], pa.float32()), pa.array([2.0, 0.1]), pa.float64()),
    (pa.array(["1.5", "2.0"]).cast(pa.decimal128(3, 1)), pa.array(["2.00", "9.55"]).cast(pa.decimal128(5, 2)),
     pa.decimal128(5, 2)),
    (pa.array(["a", "b"], pa.string_view()), pa.array(["b", "c"]).dictionary_encode(), pa.string_view()),
    (pa.array(["a", "b"]), pa.array(["b", "c"]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string_view())),
     pa.string()),
    (pa.array([b"a", b"b"]).dictionary_encode(), pa.array([b"b", b"c"], pa.binary_view()),
     pa.dictionary(pa.int32(), pa.binary())),
], ids=lambda value: str(value.type) if isinstance(value, pa.Array) else str(value))  # fmt: skip
def test_keys_of_a_full_join_keep_their_values_where_the_types_of_sides_differ(left, right, kind):
    sides = [pa.table({"k": left, "v": [0, 1]}), pa.table({"k": right, "w": [0, 1]})]
    exchange = Join(Joining("full_outer", ("k",), ("k",)), 3)
    found = [row for table in run(exchange, [[side] for side in sides], 3) for row in table.to_pylist()]
    first, both, last = left[0].as_py(), left[1].as_py(), right[1].as_py()
    expected = {(first, 0, None), (both, 1, 0), (last, None, 1)}
    assert len(found) == 3 and {(row["k"], row["v"], row["w"]) for row in found} == expected
    assert exchange.schema_of([side.schema for side in sides]).field("k").type == kind


def test_whole_numbers_beyond_64_signed_bits_are_equal_to_none_of_those():
    left, right = (pa.table({"k": keys}) for keys in (pa.array([-1, 2]), pa.array([2, 2**64 - 1], pa.uint64())))
    cases = {"inner": [2], "left_anti": [-1], "right_anti": [2**64 - 1], "right_outer": [2, 2**64 - 1]}
    for kind, expected in cases.items():
        (found,) = Joining(kind, ("k",), ("k",)).tables(left, right)
        assert found["k"].to_pylist() == expected, kind
    (found,) = Joining("left_outer", ("k",), ("k",)).tables(right, left)
    assert found["k"].to_pylist() == [2, 2**64 - 1]
