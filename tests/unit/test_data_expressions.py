"""Expressions: what Ray 2.60 gives for each operator and function, and what plain Python gives for any tree of them."""

from __future__ import annotations

import datetime
import math
import operator
from pathlib import Path

import numpy as np
import pytest

import hpc.cloudpickle as cloudpickle

pa = pytest.importorskip("pyarrow", reason="hpc.data needs pyarrow")

import pyarrow.compute as pc  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hpc.data import expressions as e  # noqa: E402
from hpc.data.block import build  # noqa: E402
from hpc.data.context import DataContext  # noqa: E402
from hpc.data.datatype import DataType  # noqa: E402
from hpc.data.expr.base import Run  # noqa: E402
from hpc.data.expr.parse import parse  # noqa: E402
from hpc.data.expressions import col, lit  # noqa: E402
from hpc.data.transform.base import TaskContext  # noqa: E402
from hpc.data.transform.columns import AddColumn, Drop, FilterExpr, Rename, Select, WithColumns  # noqa: E402
from hpc.data.transform.limit import Limit  # noqa: E402
from hpc.data.transform.sample import RandomSample  # noqa: E402
from hpc.exceptions import UserCodeException  # noqa: E402

#: The rows on which Ray evaluated the expressions of the file.
TABLE = pa.table(
    {
        "i": [-7, 8, None, 0],
        "j": [3, -3, 2, 5],
        "f": [1.5, -2.25, None, float("nan")],
        "s": ["aB", "", None, " xé "],
        "b": [True, False, None, True],
        "l": [[3, 1, None], [], None, [2, 5]],
        "st": [{"x": 1, "y": "a"}, {"x": 2, "y": None}, None, {"x": 3, "y": "c"}],
        "t": pa.array(
            [
                datetime.datetime(2020, 5, 17, 13, 45, 59),
                None,
                datetime.datetime(1999, 12, 31, 23, 59, 59, 999999),
                datetime.datetime(2000, 1, 1),
            ]
        ),
        "m": pa.array([[("k", 1)], [], None, [("a", 2), ("b", 3)]], pa.map_(pa.string(), pa.int64())),
        "ll": [[[1], [2, 3]], [], None, [[4], None]],
        "fl": pa.array([[2, 1], [3, 4], None, [6, 5]], pa.list_(pa.int64(), 2)),
        "d": pa.array(["a", "b", "a", None]).dictionary_encode(),
    }
)
KNOWN = [line.split(" => ", 1) for line in (Path(__file__).parent / "ray_expressions.txt").read_text().splitlines()]
NAMES = {"c": col, "col": col, "lit": lit, "DT": DataType, "pa": pa, "np": np, "datetime": datetime}


@pytest.mark.parametrize(("text", "answer"), KNOWN, ids=[text for text, _ in KNOWN])
def test_an_expression_gives_what_it_gives_under_ray(text, answer):
    try:
        found = eval(text, NAMES).evaluate(TABLE)
        shown = f"{found.type} {found.to_pylist()}"
    except Exception as error:
        shown = f"!! {type(error).__name__}"
    assert shown == answer


@pytest.mark.parametrize(("text", "answer"), KNOWN, ids=[text for text, _ in KNOWN])
def test_a_table_in_many_pieces_gives_the_same(text, answer):
    pieces = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1, 2), TABLE.slice(3)])
    if answer.startswith("!!") or "np.array" in text:
        return
    found = eval(text, NAMES).evaluate(pieces)
    assert f"{found.type} {found.to_pylist()}" == answer


OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, ">": operator.gt, "<=": operator.le, "==": operator.eq,
}  # fmt: skip
LEAVES = st.sampled_from(["i", "j", "k"]).map(lambda name: (name,)) | st.integers(-3, 3).map(lambda n: ("lit", n))
TREES = st.recursive(
    LEAVES, lambda inner: st.tuples(st.sampled_from(["+", "-", "*"]), inner, inner) | st.tuples(st.just("abs"), inner)
)
CELL = st.one_of(st.none(), st.integers(-50, 50))
ROWS = st.lists(st.fixed_dictionaries({"i": CELL, "j": CELL, "k": st.integers(0, 9)}), max_size=8)


def as_expr(tree):
    if len(tree) == 1:
        return col(tree[0])
    if tree[0] == "lit":
        return lit(tree[1])
    if tree[0] == "abs":
        return as_expr(tree[1]).abs()
    return OPERATORS[tree[0]](as_expr(tree[1]), as_expr(tree[2]))


def in_python(tree, row):
    if len(tree) == 1:
        return row[tree[0]]
    if tree[0] == "lit":
        return tree[1]
    sides = [in_python(side, row) for side in tree[1:]]
    if None in sides:
        return None
    return abs(sides[0]) if tree[0] == "abs" else OPERATORS[tree[0]](*sides)


@settings(max_examples=200, deadline=None)
@given(TREES, st.sampled_from([">", "<=", "=="]), TREES, ROWS)
def test_any_tree_gives_what_plain_python_gives_for_each_row(left, compare, right, cells):
    tree = (compare, left, right)
    table = pa.Table.from_pylist(cells, schema=pa.schema([(name, pa.int64()) for name in "ijk"]))
    expr = as_expr(tree)
    expected = [in_python(tree, row) for row in cells]
    assert expr.evaluate(table).to_pylist() == expected
    assert expr.columns() == {node.name for node in expr.walk() if isinstance(node, e.ColumnExpr)}
    kept = [row for row, one in zip(cells, expected) if one]
    assert [row for part in FilterExpr(expr)(iter([table]), TaskContext()) for row in part.to_pylist()] == kept
    moved = expr.rename({"i": "new"}).evaluate(table.rename_columns(["new", "j", "k"]))
    assert moved.to_pylist() == expected
    again = cloudpickle.loads(cloudpickle.dumps(expr))
    assert again.structurally_equals(expr) and hash(again) == hash(expr)
    if (arrow := expr.to_arrow()) is not None and expr.columns():
        assert table.filter(arrow).to_pylist() == kept


def test_literals_are_columns_of_as_many_rows():
    assert lit(5).evaluate(TABLE).to_pylist() == [5] * 4
    assert lit(None).evaluate(TABLE).to_pylist() == [None] * 4
    assert lit([1, 2]).evaluate(TABLE).to_pylist() == [[1, 2]] * 4
    assert lit(np.int8(3)).evaluate(TABLE).to_pylist() == [3] * 4
    assert (lit(5) + 6).evaluate(TABLE).to_pylist() == [11] * 4
    assert lit("x").evaluate(TABLE.slice(0, 0)).to_pylist() == []
    assert lit(True).is_null().evaluate(TABLE).to_pylist() == [False] * 4


def test_the_power_may_be_a_column_and_narrow_integers_are_found():
    assert col("i").power(col("j").abs()).evaluate(TABLE).to_pylist()[0] == -343
    narrow = pa.table({"x": pa.array([1, 2], pa.int8())})
    assert col("x").is_in([2]).evaluate(narrow).to_pylist() == [False, True]


def test_an_expression_is_no_truth_value():
    for wrong in (lambda: bool(col("a") == 1), lambda: col("a") and col("b"), lambda: col("a") in [1]):
        with pytest.raises(TypeError, match="use & "):
            wrong()


def test_a_tree_is_shown_as_under_ray():
    assert repr((col("x") + 5) * col("y")) == (
        "MUL\n    ├── left: ADD\n    │   ├── left: COL('x')\n    │   └── right: LIT(5)\n    └── right: COL('y')"
    )
    assert repr(col("a").is_null().alias("n")) == "ALIAS('n')\n    └── IS_NULL\n        └── operand: COL('a')"
    assert repr(e.random(seed=3)) == "RANDOM(seed=3, reseed_after_execution=True)"
    assert [repr(one) for one in (e.star(), e.uuid(), e.download("u"))] == ["COL(*)", "UUID()", "DOWNLOAD('u')"]


def test_trees_are_compared_by_structure():
    assert (col("a") + 1).structurally_equals(col("a") + 1) and not (col("a") + 1).structurally_equals(col("a") + 2)
    assert not (col("a") + 1).structurally_equals(col("a") + 1.0)
    assert col("s").str.pad(3).structurally_equals(col("s").str.pad(3))
    assert (col("a") + 1).alias("q").name == "q" and (col("a") + 1).name is None


def test_types_are_known_before_anything_runs():
    schema = TABLE.schema
    types = {
        "int64": col("i") / col("j"), "double": col("i") + col("f"), "int32": col("s").str.len(), "bool": ~col("b"),
        "list<item: string>": col("m").map.keys(), "string": col("d") + "x",
    }  # fmt: skip
    assert {str(expr.get_type(schema)): expr for expr in types.values()}.keys() == types.keys()
    assert col("nokey").get_type(schema) is None and (col("i") + "x").get_type(schema) is None
    assert (col("i") + 1).to_field(schema) is None
    assert (col("i") + 1).alias("x").to_field(schema) == pa.field("x", pa.int64())
    assert not col("i").is_null().alias("x").to_field(schema).nullable


def test_what_arrow_can_filter_by_is_told_from_what_it_cannot():
    assert str((col("i") > 1).to_pyarrow()) == "(i > 1)"
    assert TABLE.filter((col("s") + "x").to_arrow() == pc.scalar("x")).num_rows == 1
    assert (col("s") + col("s")).to_arrow() is None
    for none in (e.random(), e.uuid(), col("l").list.sort(), double(col("i"))):
        assert none.to_arrow() is None
        with pytest.raises(TypeError):
            none.to_pyarrow()
    with pytest.raises(ValueError, match="list of values"):
        col("a").is_in(col("b")).to_pyarrow()


@e.udf(return_dtype=DataType.int64())
def double(x):
    return pc.multiply(x, 2)


@e.udf(return_dtype=DataType.int64())
class Plus:
    """Adds what its constructor was given."""

    made = 0

    def __init__(self, more):
        self.more = more

    def __call__(self, x, again=0):
        return pc.add(pc.add(x, self.more), again)


@e.udf(return_dtype=DataType.string())
class Later:
    """A coroutine."""

    async def __call__(self, x):
        return pc.utf8_upper(x)


def test_functions_and_classes_of_users_take_columns():
    assert double(col("i") + 1).evaluate(TABLE).to_pylist() == [-12, 18, None, 2]
    assert Plus(5)(col("i"), again=lit(1)).evaluate(TABLE).to_pylist() == [-1, 14, None, 6]
    assert Later()(col("s")).evaluate(TABLE).to_pylist() == ["AB", "", None, " XÉ "]
    assert str(double(col("s")).get_type(TABLE.schema)) == "int64"
    again = cloudpickle.loads(cloudpickle.dumps(Plus(5)(col("i"))))
    assert again.evaluate(TABLE).to_pylist() == [-2, 13, None, 5]
    assert Plus(5)(col("i")).structurally_equals(Plus(5)(col("i"))) and Plus.__name__ == "Plus"
    assert not Plus(5)(col("i")).structurally_equals(Plus(6)(col("i")))

    arrays = e.udf(DataType.float64())(lambda x: np.ones(len(x)))
    assert arrays(col("i")).evaluate(TABLE).to_pylist() == [1.0] * 4
    series = e.udf(DataType.int64())(lambda x: pytest.importorskip("pandas").Series([1, 2, 3, None]))
    assert series(col("i")).evaluate(TABLE).to_pylist() == [1.0, 2.0, 3.0, None]
    for wrong, error in ((lambda x: [1, 2], TypeError), (lambda x: pa.array([1]), ValueError)):
        with pytest.raises(error, match=r"returned a list|gave 1 values for 4 rows"):
            e.udf(DataType.int64())(wrong)(col("i")).evaluate(TABLE)
    with pytest.raises(TypeError, match="return_dtype must be a DataType"):
        e.udf(int)


def test_ids_and_random_numbers_follow_from_the_task_and_go_on_from_table_to_table():
    def column(expr, task, sizes):
        run = Run(task)
        parts = [expr.evaluate(pa.table({"a": range(size)}), run) for size in sizes]
        return [value for part in parts for value in part.to_pylist()]

    ids = e.monotonically_increasing_id()
    assert column(ids, TaskContext(index=1), [2, 1]) == [1 << 33, (1 << 33) + 1, (1 << 33) + 2]
    numbers = e.random(seed=1)
    assert column(numbers, TaskContext(index=1), [2, 3]) == column(numbers, TaskContext(index=1), [5])
    assert column(numbers, TaskContext(index=1), [5]) != column(numbers, TaskContext(index=2), [5])
    assert column(numbers, TaskContext(epoch=1), [5]) != column(numbers, TaskContext(epoch=2), [5])
    context = DataContext.get_current().copy()
    context._execution_idx = 2
    assert column(numbers, TaskContext(context=context), [5]) == column(numbers, TaskContext(epoch=2), [5])
    fixed = e.random(seed=1, reseed_after_execution=False)
    assert column(fixed, TaskContext(epoch=1), [5]) == column(fixed, TaskContext(epoch=2), [5])
    some = column(e.uuid(), None, [50])
    assert len(set(some)) == 50 and all(len(one) == 36 and one[14] == "4" and one[19] in "89ab" for one in some)
    assert not any(expr.repeatable for expr in (ids, numbers, e.uuid() + "x")) and (col("a") + 1).repeatable


def test_downloads_give_bytes_and_null_where_a_file_cannot_be_read(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"hi")
    names = pa.table({"u": [str(path), f"file://{path}", f"local://{path}", str(tmp_path / "none"), None]})
    assert e.download("u").evaluate(names).to_pylist() == [b"hi", b"hi", b"hi", None, None]
    assert e.download("u").rename({"u": "v"}).columns() == {"v"}


@pytest.mark.parametrize(
    ("text", "expr"),
    [
        ("i > 1", col("i") > 1),
        ("i > 1 and not b or s == 'x'", ((col("i") > 1) & ~col("b")) | (col("s") == "x")),
        ("i in [1, -2]", col("i").is_in([1, -2])),
        ("a.b not in ['x']", col("a.b").not_in(["x"])),
        ("is_null(i) and is_not_null(s)", col("i").is_null() & col("s").is_not_null()),
        ("i + 1 < -j * 2", (col("i") + 1) < (col("j") * -1 * 2)),
        ("1 < i < 5", (lit(1) < col("i")) & (col("i") < 5)),
    ],
)
def test_a_filter_may_be_a_text(text, expr):
    assert parse(text).structurally_equals(expr), parse(text)


@pytest.mark.parametrize("text", ["i >", "f(i)", "i[0]", "is_null(i, j)", "[i]", "lambda: 1", "i is None"])
def test_a_text_that_is_no_filter_is_refused(text):
    with pytest.raises(ValueError, match=r"expression|filter|takes|name of a column"):
        parse(text)


def apply(transform, table=None, task=None):
    return pa.concat_tables(list(transform(iter([table if table is not None else SMALL]), task or TaskContext())))


SMALL = pa.table({"a": [1, 2], "b": ["x", "y"], "c": [1.5, 2.5]})


def test_columns_are_chosen_named_and_made():
    assert apply(Select(["c", "a"])).column_names == ["c", "a"]
    assert apply(Select([])).num_rows == 2
    assert apply(Drop(["a"])).column_names == ["b", "c"]
    assert apply(Rename({"a": "b", "b": "a"})).column_names == ["b", "a", "c"]
    made = apply(WithColumns([("a", col("a") + 1), ("z", col("a") * 10)]))
    assert made.to_pylist()[0] == {"a": 2, "b": "x", "c": 1.5, "z": 10}
    assert apply(AddColumn("z", lambda batch: batch["a"] + 1, batch_format="numpy")).column("z").to_pylist() == [2, 3]
    assert apply(AddColumn("a", lambda batch: batch["a"], batch_format="pyarrow")).column_names == ["a", "b", "c"]
    pytest.importorskip("pandas")
    assert apply(AddColumn("z", lambda frame: frame["a"] + 1)).column("z").to_pylist() == [2, 3]
    assert apply(AddColumn("z", lambda frame: 7)).column("z").to_pylist() == [7, 7]
    with pytest.raises(ValueError, match="must return a numpy array"):
        apply(AddColumn("z", lambda batch: [1, 2], batch_format="numpy"))


@pytest.mark.parametrize(
    "step", [Select(["z"]), Drop(["z"]), Rename({"z": "y"}), Rename({"a": "b"}), WithColumns([("y", col("z"))])]
)
def test_an_error_names_the_step_the_columns_and_what_was_read(step):
    with pytest.raises(UserCodeException, match=rf"{step.name} failed on rows from a.csv: \w+: .*") as caught:
        apply(step, task=TaskContext(source="a.csv"))
    assert isinstance(caught.value.__cause__, (KeyError, ValueError)) and "'b'" in str(caught.value)


def test_a_filter_keeps_what_is_true():
    assert apply(FilterExpr(col("i") > 0), TABLE).column("i").to_pylist() == [8]
    assert apply(FilterExpr(lit(None)), TABLE).num_rows == 0
    with pytest.raises(TypeError, match="true or false, and this one gives int64"):
        apply(FilterExpr(col("i")), TABLE)


def test_the_struct_of_an_unnest_is_evaluated_once_and_gives_its_fields():
    calls = []

    @e.udf(return_dtype=DataType.struct([("s", DataType.int64()), ("p", DataType.int64())]))
    def both(x):
        calls.append(1)
        values = x.combine_chunks()
        return pa.StructArray.from_arrays([values, pc.multiply(values, 2)], ["s", "p"])

    fields = e.unnest(both(col("a"))).expand_projection(SMALL.schema)
    made = apply(WithColumns([(field.name, field) for field in fields]))
    assert made.to_pylist()[1] == {"a": 2, "b": "y", "c": 2.5, "s": 2, "p": 4} and len(calls) == 1
    with pytest.raises(TypeError, match="struct-typed"):
        e.unnest(col("a")).expand_projection(SMALL.schema)
    with pytest.raises(TypeError, match="nested"):
        e.unnest(e.unnest(col("a")))


def test_a_sample_has_the_same_rows_however_they_come():
    table = build.table({"x": np.arange(1000)}, "f")
    sample = RandomSample(0.1, seed=5)
    whole = apply(sample, table)
    parts = sample(iter([table.slice(0, 300), table.slice(300)]), TaskContext())
    assert pa.concat_tables(list(parts)).equals(whole) and 60 < whole.num_rows < 140
    assert apply(RandomSample(1), table).num_rows == 1000 and apply(RandomSample(0), table).num_rows == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        RandomSample(1.5)


def test_a_limit_takes_no_table_more_than_it_needs():
    taken = []

    def tables():
        for place in range(5):
            taken.append(place)
            yield pa.table({"x": [place, place]})

    assert [table.num_rows for table in Limit(3)(tables(), TaskContext())] == [2, 1] and taken == [0, 1]
    assert list(Limit(0)(tables(), TaskContext())) == [] and taken == [0, 1]


def test_a_data_type_is_one_of_arrow_numpy_or_python():
    assert repr(DataType.int64()) == "DataType(arrow:int64)" and DataType.int64() == DataType.from_arrow(pa.int64())
    assert DataType.from_numpy("int32") != DataType.int32() and hash(DataType(int)) == hash(DataType(int))
    assert repr(DataType.infer_dtype(np.float32(1))) == "DataType(numpy:float32)"
    assert DataType.infer_dtype([1]) == DataType.list(DataType.int64())
    assert DataType.infer_dtype(object()) == DataType(object)
    assert DataType.temporal("timestamp", tz="UTC").is_temporal_type() and DataType(datetime.date).is_temporal_type()
    assert DataType.from_arrow(TABLE.schema.field("d").type).is_string_type()
    assert (
        DataType.map(DataType.string(), DataType.int8()).is_map_type()
        and DataType.tensor((2,), DataType.int8()).is_tensor_type()
    )
    assert [DataType.bool().is_of(word) for word in ("list", "no")] == [False, False]
    assert DataType.large_list(DataType.bool()).is_of("large_list") and DataType.struct(
        [("x", DataType(np.dtype("i4")))]
    ).is_of("struct")
    assert DataType.int8().to_numpy_dtype() == np.int8 and DataType(int).to_arrow_dtype([1]) == pa.int64()
    assert (
        DataType(int).is_integer_type() and DataType(bool).is_boolean_type() and not DataType.bool().is_integer_type()
    )
    for wrong, error in (
        (lambda: DataType("x"), TypeError), (lambda: DataType.temporal("x"), ValueError),
        (lambda: DataType.temporal("time32", "ns"), ValueError), (lambda: DataType.int8().to_python_type(), ValueError),
        (lambda: DataType(int).to_arrow_dtype(), AssertionError),
    ):  # fmt: skip
        with pytest.raises(error):
            wrong()
    assert math.isnan(TABLE.column("f")[3].as_py())
