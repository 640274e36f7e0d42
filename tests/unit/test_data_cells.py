"""Few rows as Python values: the tables, schemas and bytes are those of Arrow, and the blocks of a run are the same."""

import pickle

import pyarrow as pa
import pytest

from hpc.data.block import build
from hpc.data.block.cells import FEW, Cells, of_rows
from hpc.data.exec.bodies import ChainBody
from hpc.data.io.memory import RangeSource
from hpc.data.transform.base import TaskContext
from hpc.data.transform.maps import MapRows
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
