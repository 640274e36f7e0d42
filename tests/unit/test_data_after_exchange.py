"""What follows an exchange: what its last tasks do, and what has tasks of its own."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from hpc.data import range as range_of
from hpc.data.aggregate import Mean, Sum
from hpc.data.datatype import DataType
from hpc.data.exec.operators.exchange import GatherBody, ReduceBody
from hpc.data.expressions import col, download, random, udf
from hpc.data.plan.optimize import optimized
from hpc.data.plan.physical import physical
from hpc.data.shuffle.hashed import HashPartitioner
from hpc.data.transform.base import TaskContext
from hpc.data.transform.columns import FilterExpr, Select, WithColumns

TASK = TaskContext(op="", index=0)


@udf(return_dtype=DataType.int64())
def mine(column):
    return column


def names(dataset):
    """The operators, the last one first."""
    stage, found = physical(optimized(dataset.plan)), []
    while stage is not None:
        found.append(stage.name)
        stage = stage.inputs[0] if stage.inputs else None
    return found


def test_cheap_steps_are_done_by_the_last_tasks_of_an_exchange():
    rows = range_of(100)
    joined = rows.join(rows, "inner", 2, on=("id",)).groupby("id").aggregate(Sum("id"), Mean("id"))
    assert names(joined)[:2] == ["Aggregate(id)", "Join(inner)->PartialAggregate(id)"]
    steps = rows.repartition(4, shuffle=True).with_column("x", col("id") + 1).select_columns(["x"])
    assert names(steps)[0] == "Repartition(4, shuffle)->WithColumns->Select"
    few = rows.groupby("id").aggregate(Sum("id")).filter(expr=col("sum(id)") > 3)
    assert names(few)[0] == "Aggregate(id)->Filter"


@pytest.mark.parametrize(
    "follow",
    [
        lambda ds: ds.map_batches(lambda batch: batch),
        lambda ds: ds.with_column("x", mine(col("id"))),
        lambda ds: ds.with_column("x", download("id")),
        lambda ds: ds.with_column("x", random(seed=1)),
    ],
)
def test_functions_downloads_and_random_numbers_have_tasks_of_their_own(follow):
    found = names(follow(range_of(100).repartition(4, shuffle=True)))
    assert "->" not in found[0] and found[1] == "Repartition(4, shuffle)"


@pytest.mark.parametrize("exact", [True, False])
def test_the_rows_of_a_partition_go_through_the_steps_and_keep_their_columns(exact):
    steps = [FilterExpr(col("id") >= 2), WithColumns([("x", col("id") * 2)]), Select(["x"])]
    merger = HashPartitioner(("id",), False, 2)
    table = pa.table({"id": [1, 2, 3]})
    gathered = GatherBody(merger, exact, None, None, steps)([table, table], None, (0, [2], [(0, 2), (1, 3)]), TASK)
    assert [one.to_pydict() for one in gathered] == [{"x": [4, 4, 6]}]
    value = [(table, np.array([[0, 1, 3]]))]
    reduced = ReduceBody(merger, exact, None, None, steps)([value], None, (1, 2, 0, [1]), TASK)
    assert [one.to_pydict() for one in reduced] == [{"x": [4, 6]}]
    none = GatherBody(merger, exact, None, None, steps)([table], None, (0, [1], [(0, 1)]), TASK)
    assert [one.to_pydict() for one in none] == [{"x": []}]
