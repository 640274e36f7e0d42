"""Blocks: made of what functions return, given as batches, put together by one table of types, compact when sent."""

from __future__ import annotations

import datetime
import itertools
import pickle

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="hpc.data needs pyarrow")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hpc.core import serialization  # noqa: E402
from hpc.data.block import build, promote, tensor  # noqa: E402
from hpc.data.block.batch import Batcher, rows, to_batch  # noqa: E402
from hpc.data.block.compact import compact, in_one, nbytes  # noqa: E402
from hpc.data.block.errors import DataTypeError  # noqa: E402
from hpc.data.block.schema import Schema  # noqa: E402


class Point:
    """An object for which Arrow has no type."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    def __hash__(self) -> int:
        return self.x


def kinds(table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


def test_a_dict_of_arrays_and_lists_becomes_a_block_of_the_types_that_arrow_has_for_them():
    made = build.table(
        {
            "i": np.arange(2, dtype=np.int16),
            "s": np.array(["a", "bb"]),
            "b": np.array([b"a", b"bb"]),
            "l": [[1], [2, 3]],
            "n": [None, 1],
            "d": [{"x": 1}, {"y": 2}],
            "m": np.array(["x", float("nan")], dtype=object),
            "t": np.array(["2020-01-01", "2020-01-02"], "M8[s]"),
            "set": np.array([{1, 2}, None], dtype=object),
        },
        "f",
    )
    assert kinds(made) == {
        "i": "int16", "s": "string", "b": "binary", "l": "list<item: int64>", "n": "int64",
        "d": "struct<x: int64, y: int64>", "m": "string", "t": "timestamp[s]", "set": "list<item: int64>",
    }  # fmt: skip
    assert made.column("m").to_pylist() == ["x", None]


def test_cells_that_are_arrays_are_tensors_of_one_shape_or_ragged():
    made = build.table(
        {
            "one": np.arange(12).reshape(2, 2, 3),
            "list": [np.ones(2), np.zeros(2)],
            "ragged": [np.ones(1), np.zeros(2)],
            "dims": [np.ones(1), np.zeros((2, 2))],
            "none": [None, np.ones(3)],
            "bool": np.array([[True, False], [False, True]]),
            "text": np.array([["a", "bb"], ["c", "d"]]),
            "empty": np.zeros((2, 0)),
            "scalar": [np.array(1.0), np.array(2.0)],
        },
        "f",
    )
    assert [tensor.is_fixed(made.field(name).type) for name in ("one", "list", "ragged", "bool", "text")] == [
        True, True, False, True, True,
    ]  # fmt: skip
    assert str(made.field("scalar").type) == "double"
    batch = to_batch(made)
    assert batch["one"].shape == (2, 2, 3) and batch["one"].dtype == np.int64
    assert batch["list"].tolist() == [[1, 1], [0, 0]]
    assert batch["ragged"].dtype == object and [cell.shape for cell in batch["ragged"]] == [(1,), (2,)]
    assert [cell.shape for cell in batch["dims"]] == [(1,), (2, 2)]
    assert batch["none"][0] is None and batch["none"][1].tolist() == [1, 1, 1]
    assert batch["bool"].tolist() == [[True, False], [False, True]] and batch["bool"].dtype == bool
    assert batch["text"].tolist() == [["a", "bb"], ["c", "d"]]
    assert [len(cell) for cell in batch["empty"]] == [0, 0]
    first = next(rows(made.slice(1)))
    assert first["one"].tolist() == [[6, 7, 8], [9, 10, 11]] and first["ragged"].tolist() == [0, 0]


def test_flat_arrays_of_texts_are_lists():
    cells = [np.array(["a", "b"], dtype=object), None, np.array([], dtype=object)]
    made = build.table({"l": cells, "n": np.array([*cells], dtype=object)}, "f")
    assert kinds(made) == {"l": "list<item: string>", "n": "list<item: string>"}
    assert made.column("n").to_pylist() == [["a", "b"], None, []]


def test_a_tensor_column_is_a_view_of_the_array_and_gives_a_view_back():
    array = np.arange(12, dtype=np.float32).reshape(2, 6)
    made = pa.table({"x": build.array_column(array)})
    back = to_batch(made)["x"]
    assert np.shares_memory(array, back) and not back.flags.writeable
    assert to_batch(made, zero_copy=False)["x"].flags.writeable


def test_objects_without_an_arrow_type_are_kept_as_they_are():
    made = build.from_rows([{"p": Point(1), "big": 2**70, "mix": 1}, {"p": None, "big": 1, "mix": "x"}])
    assert [row["p"] for row in rows(made)] == [Point(1), None]
    assert [row["mix"] for row in rows(made)] == [1, "x"]
    assert to_batch(made)["big"].tolist() == [2**70, 1]
    again = pickle.loads(pickle.dumps(compact(made)))
    assert list(rows(again)) == list(rows(made))
    assert build.table({"c": np.array([1j])}, "f").column("c").to_pylist() == [1j]


def test_rows_with_different_keys_have_nulls_where_a_key_is_missing():
    made = build.from_rows([{"a": 1}, {"b": "x"}])
    assert made.to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
    assert build.from_items([1, None, 3]).to_pylist() == [{"item": 1}, {"item": None}, {"item": 3}]
    assert build.from_rows([{}, {}]).num_rows == 2
    assert list(rows(build.from_rows([{}, {}]))) == [{}, {}]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 2], "returned a list"),
        (np.ones(3), "returned an array"),
        (None, "returned None"),
        (3, "returned a int"),
        ({"a": 1}, "the column 'a' as a int"),
        ({"a": "xx"}, "the column 'a' as a str"),
        ({"a": (1, 2)}, "the column 'a' as a tuple"),
        ({"a": [1, 2], "b": [1]}, "'a' has 2, 'b' has 1"),
        ({1: [1]}, "a column named 1"),
        ({"a": np.array(1)}, "array of no dimension"),
        (pa.table([[1], [2]], names=["a", "a"]), "two columns of one name"),
    ],
)
def test_an_error_names_the_function_and_the_column(value, said):
    with pytest.raises(ValueError, match=r"my_function returned") as caught:
        build.table(value, "my_function")
    assert said in str(caught.value)


def test_frames_of_pandas_and_polars_become_blocks_without_their_index():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2], "s": ["x", None], "t": [np.ones(2), np.zeros(2)]}, index=[5, 6])
    made = build.table(frame, "f")
    assert made.column_names == ["a", "s", "t"] and tensor.is_fixed(made.field("t").type)
    assert made.column("s").to_pylist() == ["x", None]
    pl = pytest.importorskip("polars")
    assert build.table(pl.DataFrame({"a": [1, 2]}), "f").to_pylist() == [{"a": 1}, {"a": 2}]


def test_batches_of_pandas_keep_the_types_of_arrow():
    pytest.importorskip("pandas")
    made = build.table({"i": [1, None], "s": ["a", "b"], "t": np.ones((2, 2))}, "f")
    frame = to_batch(made, "pandas")
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "i": "int64[pyarrow]", "s": "string[pyarrow]", "t": "object",
    }  # fmt: skip
    assert list(frame.columns) == ["i", "s", "t"]
    assert build.table(frame, "f").equals(made)


def test_an_unknown_format_of_batches_is_refused():
    with pytest.raises(ValueError, match="batch_format is one of"):
        to_batch(pa.table({"a": [1]}), "cudf")


TYPES = {
    "null": (pa.null(), [None]),
    "int8": (pa.int8(), [1]),
    "int64": (pa.int64(), [2]),
    "float": (pa.float32(), [0.5]),
    "double": (pa.float64(), [2.5]),
    "string": (pa.string(), ["a"]),
    "large": (pa.large_string(), ["b"]),
    "dict": (pa.dictionary(pa.int8(), pa.string()), ["c"]),
    "struct": (pa.struct([("x", pa.int64())]), [{"x": 1}]),
    "struct2": (pa.struct([("x", pa.float64()), ("y", pa.string())]), [{"x": 1.5, "y": "b"}]),
    "list": (pa.list_(pa.int64()), [[1]]),
    "list2": (pa.list_(pa.float64()), [[1.5, None]]),
    "lists": (pa.list_(pa.struct([("x", pa.int8())])), [[{"x": 1}]]),
    "structs": (pa.list_(pa.struct([("y", pa.int8())])), [[{"y": 1}]]),
}
TOGETHER = [
    ("null", "int64", "int64"),
    ("null", "struct", "struct<x: int64>"),
    ("int8", "int64", "int64"),
    ("int64", "double", "double"),
    ("float", "double", "double"),
    ("string", "large", "large_string"),
    ("string", "dict", "string"),
    ("struct", "struct2", "struct<x: double, y: string>"),
    ("list", "list2", "list<item: double>"),
    ("lists", "structs", "list<item: struct<x: int8, y: int8>>"),
]


@pytest.mark.parametrize(("one", "other", "kind"), TOGETHER)
def test_blocks_of_types_that_go_together_become_one(one, other, kind):
    for first, second in ((one, other), (other, one)):
        tables = [pa.table({"a": pa.array(TYPES[name][1], TYPES[name][0])}) for name in (first, second)]
        whole = promote.concat(tables)
        assert str(whole.field("a").type) in (
            kind,
            "list<item: struct<y: int8, x: int8>>",
            "struct<y: string, x: double>",
        )
        assert whole.num_rows == 2


def test_tensors_of_several_shapes_become_ragged_with_the_same_cells():
    parts = [np.ones((2, 2), np.float32), np.zeros((1, 3)), np.arange(8).reshape(1, 2, 4)]
    whole = promote.concat([build.table({"t": part}, "f") for part in parts])
    assert str(whole.field("t").type) == "RaggedTensorType(ndim=2, dtype=double)"
    cells = to_batch(whole)["t"]
    assert [cell.tolist() for cell in cells] == [[1, 1], [1, 1], [0, 0, 0], [[0, 1, 2, 3], [4, 5, 6, 7]]]
    assert [cell.tolist() for cell in to_batch(whole.slice(1, 2))["t"]] == [[1, 1], [0, 0, 0]]


def test_a_column_that_a_block_has_not_is_null():
    whole = promote.concat([build.table({"t": np.ones((1, 2))}, "f"), pa.table({"b": ["x"]})])
    assert whole.column_names == ["t", "b"]
    assert list(rows(whole))[1] == {"t": None, "b": "x"}


def test_a_conflict_names_the_column_both_types_and_both_files():
    schemas = [pa.schema([("a", pa.int64())]), pa.schema([("a", pa.string())])]
    with pytest.raises(DataTypeError, match=r"column 'a' is int64 in one\.csv and string in two\.csv"):
        promote.unify(schemas, ["one.csv", "two.csv"])


def test_a_slice_that_is_stored_takes_its_own_rows_alone():
    whole = build.table(
        {
            "tensor": np.zeros((1000, 8, 8)),
            "text": ["x" * 100] * 1000,
            "ragged": [np.ones(50 + i % 2) for i in range(1000)],
            "list": [list(range(20))] * 1000,
            "flag": [True, None] * 500,
        },
        "f",
    )
    part = in_one(whole.slice(13, 10))
    stored = serialization.dumps(part)
    assert stored.size < whole.nbytes / 20
    assert serialization.loads(stored.to_bytes()).to_pylist()[3]["text"] == "x" * 100
    many = in_one(pa.concat_tables([whole, whole]).slice(995, 10))
    assert all(column.num_chunks == 1 for column in many.columns) and many.num_rows == 10


def test_a_compact_slice_holds_its_own_bytes_alone():
    whole = build.table(
        {"x": np.arange(100_000), "s": [str(i) for i in range(100_000)], "t": np.ones((100_000, 4))}, "f"
    )
    part = whole.slice(500, 10)
    small = compact(part)
    assert small.equals(part) and len(pickle.dumps(small)) < 4000 < len(pickle.dumps(part))
    assert nbytes(small) <= nbytes(part) + 64 and compact(small) is small
    assert compact(whole).column("x").chunk(0).buffers()[1].address == whole.column("x").chunk(0).buffers()[1].address
    many = pa.concat_tables([part, part])
    assert all(column.num_chunks == 1 for column in compact(many).columns) and compact(many).num_rows == 20
    assert compact(whole.slice(5, 0)).num_rows == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7), st.booleans())
def test_only_the_last_batch_is_short_for_any_blocks(sizes, batch_size, drop_last):
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    tables = [pa.table({"x": np.arange(a, b)}) for a, b in itertools.pairwise(ends)]
    got = list(Batcher(batch_size, drop_last).batches(iter(tables)))
    total = int(ends[-1])
    kept = total - total % batch_size if drop_last else total
    assert [x for table in got for x in table.column("x").to_pylist()] == list(range(kept))
    assert all(table.num_rows == batch_size for table in got[:-1])


def test_a_batch_within_a_block_is_a_view():
    table = build.table({"x": np.arange(10.0)}, "f")
    first, second, last = Batcher(4).batches(iter([table]))
    assert np.shares_memory(to_batch(second)["x"], to_batch(table)["x"])
    assert (first.num_rows, second.num_rows, last.num_rows) == (4, 4, 2)


def test_dates_and_times_come_back_as_python_has_them():
    cells = [datetime.datetime(2020, 1, 1, 1), None]
    made = build.from_rows([{"t": cell} for cell in cells])
    assert [row["t"] for row in rows(made)] == cells


def test_rows_without_columns_are_not_lost():
    part = build.from_rows([{}, {}, {}])
    sent = pickle.loads(pickle.dumps(compact(part.slice(1))))
    assert sent.num_rows == 2 and list(rows(sent)) == [{}, {}]
    assert promote.concat([part, sent]).num_rows == 5
    assert promote.concat([part, pa.table({"a": [1]})]).to_pylist() == [{"a": None}] * 3 + [{"a": 1}]
    assert Schema(part.schema).names == [] == Schema(part.schema).types
    assert to_batch(part) == {} and to_batch(part, "pyarrow").column_names == []
    assert build.table(part.select([]), "f").num_rows == 3
    pytest.importorskip("pandas")
    assert to_batch(part, "pandas").shape == (3, 0)
