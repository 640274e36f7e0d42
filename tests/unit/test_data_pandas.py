"""pandas is imported where it is wanted alone, and pyarrow knows it then."""

from __future__ import annotations

import datetime
import subprocess
import sys

import pytest

pa = pytest.importorskip("pyarrow")
import numpy as np  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hpc.data.block.flat import PLAIN, to_numpy  # noqa: E402
from hpc.data.block.scalars import full_scalar, scalar  # noqa: E402

#: What tasks of a query do: reading, filters, columns, groups, joins, sorts, shuffles, and batches of numpy.
QUERY = """
import datetime, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
import hpc.data
from hpc.data.aggregate import Count, Max, Mean, Std, Sum
from hpc.data.block import batch
from hpc.data.context import DataContext
from hpc.data.exec.bodies import ChainBody
from hpc.data.expressions import col, lit
from hpc.data.plan.optimize import optimized
from hpc.data.plan.physical import physical
from hpc.data.shuffle.join import Join, Joining
from hpc.data.shuffle.local import run
from hpc.data.shuffle.random import RandomShuffle
from hpc.data.transform.base import TaskContext

folder, rows = sys.argv[1], 50_000
days = np.datetime64("1995-01-01") + np.arange(rows) % 400
pq.write_table(pa.table({
    "k": np.arange(rows) % 10, "many": np.arange(rows), "v": np.arange(rows) / 2,
    "w": (np.arange(rows) % 3).astype("f4"),
    "flag": pa.array(np.array(["A", "N", "R"])[np.arange(rows) % 3]), "day": pa.array(days, pa.date32()),
}), f"{folder}/a.parquet")
read = hpc.data.read_parquet(f"{folder}/a.parquet").filter(expr=col("day") <= lit(datetime.date(1995, 6, 1)))
read = read.with_column("x", col("v") * (lit(1) - col("w"))).filter(expr=col("x").is_not_null() & (col("k") != 3))

def tables(ds):
    stage = physical(optimized(ds.plan))
    while stage.inputs:
        (stage,) = stage.inputs
    body, context = ChainBody(stage.chain, 1 << 20), DataContext.get_current()
    for task in stage.node.source.tasks(2):
        yield from body([], task, None, TaskContext(op="read", index=0, attempt=0, context=context))

for keys in ("k", "many", "flag", ["flag", "k"]):
    states = list(tables(read.groupby(keys).aggregate(Sum("v"), Mean("x"), Std("w"), Max("w"), Count())))
    assert sum(map(len, states)), keys
found = list(tables(read))
exchange = Join(Joining("inner", ("many",), ("many",), "", "_r"), 2)
assert sum(map(len, run(exchange, [found, [found[0].select(["many", "w"])]], 2)))
assert list(run(RandomShuffle(3), [found], 3))
assert batch.to_batch(found[0].drop_columns(["day", "flag"]), "numpy")["k"].dtype == np.int64
print("pandas" in sys.modules, "pyarrow.dataset" in sys.modules)
"""
KNOWN = """
import sys, threading
import numpy as np, pyarrow as pa
import hpc.data
from hpc.data.pandas_later import Later, put_off
pa.array(np.arange(3))
assert "pandas" not in sys.modules
assert sum(isinstance(one, Later) for one in sys.meta_path) == 1
put_off()
assert sum(isinstance(one, Later) for one in sys.meta_path) == 1
{first}
import pandas as pd
assert not any(isinstance(one, Later) for one in sys.meta_path)
assert type(pd.__spec__.loader) is type(pd.__loader__) and not hasattr(pd.__loader__, "_finder")
assert pa.lib._pandas_api.have_pandas
assert pa.array(pd.Series([1.0, float("nan")])).null_count == 1
assert pa.types.is_dictionary(pa.array(pd.Categorical(["a", "b", "a"])).type)
assert pa.Table.from_pandas(pd.DataFrame({{"a": [1, 2]}})).to_pandas()["a"].tolist() == [1, 2]
print("known")
"""


def said(program, *arguments):
    ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_the_tasks_of_a_query_import_neither_pandas_nor_the_datasets_of_pyarrow(tmp_path):
    assert said(QUERY, str(tmp_path)) == "False False"


@pytest.mark.parametrize(
    "first",
    [
        "",
        "pa.array([1, 2, None])",  # Arrow looks for values of pandas in a list
        "pa.table({'a': [1]}).to_pandas()",
        "other = threading.Thread(target=lambda: __import__('pandas')); other.start(); other.join()",
    ],
    ids=["by import", "by a list", "by to_pandas", "by another thread"],
)
def test_pyarrow_knows_pandas_when_something_has_imported_it(first):
    pytest.importorskip("pandas")
    assert said(KNOWN.format(first=first)) == "known"


NANOSECONDS = """
import sys
import pyarrow as pa
import hpc.data
from hpc.data.aggregate import Max
from hpc.data.block.batch import rows, to_batch
from hpc.data.expr.functions import UDFExpr
from hpc.data.expressions import col
from hpc.data.methods.splitting import fractions
from hpc.data.shuffle.states import counted_texts
times = pa.array([1001, None], pa.int64()).cast(pa.{kind})
table = pa.table([pa.chunked_array([{column}])], ["t"])
assert "pandas" not in sys.modules
print({made})
"""


def test_values_of_nanoseconds_are_those_of_pandas_also_where_nothing_has_imported_it():
    pytest.importorskip("pandas")
    rows = "[row['t'] for row in rows(table)]"
    table = "to_batch(table, 'pyarrow')['t'].to_pylist()"
    others = ("Max('t').aggregate_block(table)", "fractions(table['t'])", "list(counted_texts(table['t'], False))",
              "UDFExpr(lambda t: print(t.to_pylist()) or t, (col('t'),), {}, None).evaluate(table).type")  # fmt: skip
    for kind, all_made in (("timestamp('ns')", (rows, table, *others)), ("duration('ns')", (rows, table))):
        programs = [NANOSECONDS.format(kind=kind, made=made, column="times") for made in all_made]
        known = NANOSECONDS.format(kind=kind, made=")\nprint(".join(all_made), column="times")
        known = known.replace('assert "pandas" not in sys.modules', "import pandas")
        assert "\n".join(map(said, programs)) == said(known), kind


def test_values_of_nanoseconds_within_others_are_those_of_pandas():
    pytest.importorskip("pandas")
    for column in (
        "pa.StructArray.from_arrays([times], ['a'])",
        "pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), times)",
        "times.dictionary_encode()",
    ):
        program = NANOSECONDS.format(kind="timestamp('ns', 'UTC')", made="list(rows(table))", column=column)
        assert "Timestamp('1970-01-01 00:00:00.000001001+0000', tz='UTC')" in said(program)


def test_times_of_other_units_need_no_pandas():
    made = "'pandas' in sys.modules, list(rows(table)), 'pandas' in sys.modules"
    assert said(NANOSECONDS.format(kind="timestamp('us')", made=made, column="times")) == (
        "False [{'t': datetime.datetime(1970, 1, 1, 0, 0, 0, 1001)}, {'t': None}] False"
    )


def test_pandas_that_was_there_before_is_left_to_pyarrow():
    pytest.importorskip("pandas")
    program = "import pandas, sys, hpc.data; print([type(one).__name__ for one in sys.meta_path].count('Later'))"
    assert said(program) == "0"


values = st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=20)


@settings(deadline=None, max_examples=200)
@given(
    given_values=values,
    kind=st.sampled_from([*map(str, PLAIN.values()), "bool", "string", "date"]),
    first=st.integers(0, 20),
    count=st.integers(0, 20),
    chunks=st.integers(0, 3),
)
def test_arrays_of_numpy_are_those_of_arrow(given_values, kind, first, count, chunks):
    if kind == "bool":
        array = pa.array([None if value is None else value % 2 == 0 for value in given_values], pa.bool_())
    elif kind == "string":
        array = pa.array([None if value is None else str(value) for value in given_values], pa.string())
    elif kind == "date":
        array = pa.array(given_values, pa.int32()).cast(pa.date32())
    else:
        array = pa.array([None if value is None else np.dtype(kind).type(value) for value in given_values],
                         pa.from_numpy_dtype(kind))  # fmt: skip
    array = array.slice(first, count)
    column = array if not chunks else pa.chunked_array([array] * (chunks - 1), array.type)
    expected = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    found = to_numpy(column)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)
    assert found.flags.writeable == expected.flags.writeable or not len(found)


@pytest.mark.parametrize(
    "value",
    [True, 3, -(2**63), 2**63 - 1, 1.5, "a", b"a", datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2), None,
     np.int8(3), np.float32(2)],
)  # fmt: skip
def test_scalars_have_the_types_that_arrow_finds(value):
    assert full_scalar(value).equals(pa.scalar(value))
    made = scalar(value)
    assert made is value or made.type == pa.scalar(value).type


def test_numbers_that_arrow_does_not_take_stay_as_they_are():
    assert scalar(2**63) == 2**63 and scalar(-(2**63) - 1) == -(2**63) - 1
