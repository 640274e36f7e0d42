"""Few rows as Python values: the tables, schemas and bytes are those of Arrow, and the blocks of a run are the same."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from hpc.data.block import build
from hpc.data.block.batch import to_batch
from hpc.data.block.cells import FEW, Cells, of_rows
from hpc.data.exec.bodies import ChainBody
from hpc.data.io.memory import RangeSource
from hpc.data.transform.base import TaskContext
from hpc.data.transform.maps import MapBatches, MapRows
from hpc.exceptions import UserCodeException

PLAIN = [
    [{"id": 1}],
    [{"id": 2**63 - 1, "x": 0.5}, {"id": -(2**63), "x": float("nan")}],
    [{"s": ""}, {"s": "a"}, {"s": "äöü"}],
    [{"b": True, "s": "x" * 100}] * 9,
    [{"b": False}] * FEW,
]
OTHER = [
    [],
    [{}],
    [{"id": None}],
    [{"id": 1}, {"id": 1.5}],
    [{"id": 1}, {"id": True}],
    [{"id": 2**63}],
    [{"id": 1}, {"x": 1}],
    [{"id": 1}, {"id": 2, "x": 1}],
    [{"id": [1]}],
    [{"s": "\udc80"}],
    [{1: 1}],
    [{"id": 1}] * (FEW + 1),
    [[1]],
]


@pytest.mark.parametrize("rows", PLAIN)
def test_cells_are_the_table_that_arrow_makes(rows: list[dict[str, object]]) -> None:
    cells, table = of_rows(rows), build.from_rows(rows)
    assert cells is not None
    assert cells.num_rows == table.num_rows and cells.nbytes == table.nbytes
    assert cells.schema == table.schema.serialize().to_pybytes()
    sent = pickle.loads(pickle.dumps(cells, 5))
    assert sent.schema.equals(table.schema) and str(sent.to_pylist()) == str(rows)
    assert str(list(cells.rows())) == str(rows)


@pytest.mark.parametrize("rows", OTHER)
def test_other_rows_are_left_to_arrow(rows: list[object]) -> None:
    assert of_rows(rows) is None


def test_a_chain_of_functions_makes_no_table_of_plain_rows() -> None:
    body = ChainBody([MapRows(lambda row: {"id": row["id"] + 1}), MapRows(lambda row: {**row, "s": "x"})], 1 << 20)
    (unit, *_) = RangeSource(8).tasks(4)
    (block,) = body([], unit, None, TaskContext())
    assert isinstance(block, Cells) and list(block.rows()) == [{"id": 1, "s": "x"}, {"id": 2, "s": "x"}]
    (block,) = body([pa.table({"id": [5]})], None, None, TaskContext())
    assert isinstance(block, Cells) and list(block.rows()) == [{"id": 6, "s": "x"}]


def test_a_function_is_called_once_where_its_rows_are_not_plain() -> None:
    seen: list[int] = []

    def listed(row: dict[str, int]) -> dict[str, object]:
        seen.append(row["id"])
        return {"id": [row["id"]]}

    body = ChainBody([MapRows(listed), MapRows(lambda row: {"n": len(row["id"])})], 1 << 20)
    (unit,) = RangeSource(2).tasks(1)
    (block,) = body([], unit, None, TaskContext())
    assert seen == [0, 1]
    assert list(block.rows()) == [{"n": 1}, {"n": 1}]


def test_an_error_of_a_few_rows_names_the_row_and_where_it_is_from() -> None:
    body = ChainBody([MapRows(lambda row: {"x": 1 // (1 - row["id"])})], 1 << 20)
    (unit,) = RangeSource(3).tasks(1)
    with pytest.raises(UserCodeException, match="a row of 3, after 1 results from range rows 0 to 3"):
        list(body([], unit, None, TaskContext()))


#: What functions on batches give, and whether it needs no table.
BATCHES = [
    (lambda batch: {"id": batch["id"] + 1}, True),
    (lambda batch: {"x": batch["id"] / 2, "b": batch["id"] > 1}, True),
    (lambda batch: batch, True),  # its texts are objects
    (lambda batch: {"s": np.array([None, 1, "x"], object)}, False),
    (lambda batch: {"s": np.array(["a", "b", "c"])}, False),
    (lambda batch: {"id": batch["id"]}, True),
    (lambda batch: {"id": batch["id"][::2]}, True),
    (lambda batch: {"id": np.zeros(0)}, False),
    (lambda batch: {"id": np.zeros((len(batch["id"]), 2))}, False),
    (lambda batch: {"id": batch["id"].astype(np.int32)}, False),
    (lambda batch: {"id": [1, 2, None]}, False),
    (lambda batch: {"id": np.arange(100)}, False),
    (lambda batch: pa.table({"id": batch["id"]}), False),
    (lambda batch: ({"id": batch["id"] + n} for n in range(3)), False),
]


@pytest.mark.parametrize("given", ["cells", "table"])
@pytest.mark.parametrize(("fn", "is_plain"), BATCHES)
def test_a_function_on_a_batch_of_few_rows_gives_what_it_gives_as_tables(fn, is_plain, given) -> None:
    rows = [{"id": n, "s": "ab"} for n in range(3)]
    cells, table = of_rows(rows), build.from_rows(rows)
    whole = list(MapBatches(fn)(iter([table]), TaskContext()))
    made = MapBatches(fn).few(cells if given == "cells" else table, TaskContext())
    assert isinstance(made, Cells) == is_plain
    found = [made.table()] if isinstance(made, Cells) else [made] if isinstance(made, pa.Table) else list(made)
    assert [str(one) for one in found] == [str(one) for one in whole]
    assert all(one.schema.equals(two.schema) for one, two in zip(found, whole))
    if isinstance(made, Cells):
        assert made.nbytes == whole[0].nbytes and made.schema == whole[0].schema.serialize().to_pybytes()
    same = MapRows(lambda row: row)
    blocks = ChainBody([same, MapBatches(fn), same], 64)([table], None, None, TaskContext())
    assert sum(one.num_rows for one in blocks) == sum(one.num_rows for one in whole)


@pytest.mark.parametrize("zero_copy", [True, False])
@pytest.mark.parametrize("rows", PLAIN)
def test_a_batch_of_cells_is_that_of_their_table(rows, zero_copy) -> None:
    cells = of_rows(rows)
    assert cells is not None
    here, there = cells.arrays(zero_copy), to_batch(cells.table(), "default", zero_copy)
    assert list(here) == list(there)
    for name in here:
        assert (here[name].dtype, here[name].flags.writeable) == (there[name].dtype, there[name].flags.writeable)
        assert str(here[name].tolist()) == str(there[name].tolist())


def test_a_function_on_a_batch_of_few_rows_is_held_to_what_it_says() -> None:
    twice = MapBatches(lambda batch: {"id": np.repeat(batch["id"], 2)}, udf_modifying_row_count=False)
    with pytest.raises(ValueError, match="returned 2 rows for a batch of 1"):
        twice.few(pa.table({"id": [1]}), TaskContext())
    broken = MapBatches(lambda batch: {"id": 1 // int(batch["id"].sum())})
    with pytest.raises(UserCodeException, match="a batch of 1 rows"):
        broken.few(pa.table({"id": [0]}), TaskContext())
    assert MapBatches(len, batch_size=2).few(pa.table({"id": [1, 2, 3]}), TaskContext()) is None
    assert MapBatches(len, batch_format="pandas").few(pa.table({"id": [1]}), TaskContext()) is None
