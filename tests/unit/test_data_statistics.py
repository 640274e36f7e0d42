"""Row groups without a row for a filter are left out by what their footers say, and no others."""

from __future__ import annotations

import datetime
import decimal
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.data.expr.kernels import Operation
from hpc.data.expr.nodes import BinaryExpr
from hpc.data.expressions import col, lit
from hpc.data.io import statistics
from hpc.data.io.files import QUICK_S, ahead

DAY = datetime.date(2020, 1, 1)
NAN = float("nan")
COLUMNS = {
    "i": [None, -3, 0, 1, 2, 7, 1 << 53, (1 << 53) + 1],
    "f": [None, -1.5, 0.0, -0.0, 2.0, NAN, float(1 << 53)],
    "s": [None, "", "a", "ab", "b", "é", "ж", "\U0001f600"],
    "d": [None, *(DAY + datetime.timedelta(days) for days in range(4))],
}
TYPES = {"i": pa.int64(), "f": pa.float64(), "s": pa.string(), "d": pa.date32()}
OPERATIONS = (Operation.LT, Operation.LE, Operation.GT, Operation.GE, Operation.EQ, Operation.NE)


def group_of(table):
    """The only row group of a table, and the places of its columns."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    group = pq.ParquetFile(pa.BufferReader(sink.getvalue())).metadata.row_group(0)
    return group, {group.column(at).path_in_schema: at for at in range(group.num_columns)}


def comparison(drawn):
    name = drawn.choice(list(COLUMNS))
    values = COLUMNS[drawn.choice("if")] if name in "if" else COLUMNS[name]
    value = drawn.choice([one for one in values if one is not None])
    sides = (col(name), lit(value)) if drawn.random() < 0.7 else (lit(value), col(name))
    return BinaryExpr(drawn.choice(OPERATIONS), *sides)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.integers(0, 1 << 30))
def test_a_group_with_a_row_that_passes_is_read(seed):
    drawn = random.Random(seed)
    rows = drawn.randint(1, 4)
    table = pa.table({name: pa.array(drawn.choices(COLUMNS[name], k=rows), TYPES[name]) for name in COLUMNS})
    expr = comparison(drawn)
    for _ in range(drawn.randint(0, 2)):
        expr = BinaryExpr(drawn.choice([Operation.AND, Operation.OR]), expr, comparison(drawn))
    try:
        passes = any(expr.evaluate(table).to_pylist())
    except pa.ArrowInvalid:
        return  # such whole numbers are no floats: whoever reads the group says so
    if statistics.knows(expr):
        assert statistics.may_pass(expr, *group_of(table)) or not passes


@pytest.mark.parametrize(
    ("expr", "passes"),
    [
        (col("i") > 9, False), (col("i") >= 9, True), (col("i") < 3, False), (lit(3) >= col("i"), True),
        (lit(3) > col("i"), False), (col("i") == 5, True), (col("i") == 10, False), (col("i") == 9.5, False),
        (col("d") <= DAY, True), (col("d") < DAY, False), (col("s") > "c", False),
        ((col("i") > 9) | (col("s") == "b"), True), ((col("i") > 3) & (col("s") > "c"), False),
        (col("x") == 3, True), (col("i") == "3", True), (col("d") == datetime.datetime(2019, 1, 1), True),
        (col("m") == decimal.Decimal("1.50"), False), (col("m") == decimal.Decimal("2.50"), True),
        (col("i") == NAN, True),
    ],
)  # fmt: skip
def test_bounds_tell_of_comparisons(expr, passes):
    table = pa.table({"i": [3, 9], "d": [DAY, DAY], "s": ["a", "c"], "m": [decimal.Decimal("2.50")] * 2})
    assert statistics.knows(expr) and statistics.may_pass(expr, *group_of(table)) is passes


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (pa.array([0, 1 << 62], pa.timestamp("us")), datetime.datetime(2020, 1, 1)),
        (pa.array([0, 1 << 62], pa.timestamp("ms")), datetime.datetime(2020, 1, 1)),
        (pa.array([0, 1 << 30], pa.date32()), DAY),
        (pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers()), "a"),
    ],
)
def test_bounds_that_python_cannot_hold_leave_a_group(column, value):
    """As "for ever" is stored by some: it must not end the read of a file."""
    assert statistics.may_pass(col("t") > lit(value), *group_of(pa.table({"t": column})))


def test_other_filters_are_left_to_arrow():
    for expr in (col("i") != 3, col("i") + 1 == 3, col("i").is_in([3]), col("i") == col("j"), ~(col("i") == 3)):
        assert not statistics.knows(expr)
    assert not statistics.knows((col("i") == 3) & (col("i") != 4)) and not statistics.knows(col("i") == lit([1]))


def test_threads_begin_with_the_first_call_that_takes_long(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("hpc.data.io.files.time.perf_counter", lambda: now[0])
    threads = []
    monkeypatch.setattr("hpc.data.io.files.by_threads", lambda function, items: threads.extend(items) or iter(threads))

    def call(item):
        now[0] += 2 * QUICK_S if item == 2 else 0.0
        return item

    assert list(ahead(call, range(5))) == [0, 1, 2, 3, 4] and threads == [3, 4]
    assert list(ahead(call, [])) == []
