"""Parquet files as tasks of row groups: rows, columns, filters by statistics, footers, errors that name the place."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from io_reading import HIVE, rows, source, tables, types

from hpc.data.behind import without_first
from hpc.data.block import objects
from hpc.data.consume.order import Order
from hpc.data.expressions import col
from hpc.data.io.errors import ReadError
from hpc.data.io.parquet_file import PICKLED, TABLE, ParquetFormat, outermost
from hpc.data.ordered import ordered_plan
from hpc.data.plan.interpret import interpret
from hpc.data.plan.nodes import Read, Skip, walk
from hpc.data.transform.base import TaskContext


class Above:
    """Stands for the expression ``name > value``."""

    def __init__(self, name, value):
        self.name, self.value = name, value

    def columns(self):
        return frozenset((self.name,))

    def evaluate(self, table):
        return pc.greater(table[self.name], self.value)

    def to_arrow(self):
        return pc.field(self.name) > self.value


@pytest.fixture
def two(tmp_path):
    pq.write_table(pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]}), tmp_path / "a.parquet", row_group_size=2)
    pq.write_table(pa.table({"a": [4], "b": ["w"]}), tmp_path / "b.parquet")
    (tmp_path / "x.txt").write_text("x")
    return tmp_path


def parquet(path, form=ParquetFormat(), **args):  # noqa: B008
    return source(form, str(path), **{"file_extensions": ["parquet"], "partitioning": HIVE, **args})


def test_rows_schema_and_count(two):
    read = parquet(two)
    assert [row["a"] for row in rows(read)] == [1, 2, 3, 4] and read.count() == 4
    assert types(read) == {"a": "int64", "b": "string"}
    assert read.estimate().rows == 4 and read.estimate().files == 2
    assert rows(parquet(two, include_paths=True))[3] == {"a": 4, "b": "w", "path": str(two / "b.parquet")}
    assert rows(parquet(two, skip_paths=str(two / "a.parquet"))) == [{"a": 4, "b": "w"}]


def test_tasks_are_row_groups_and_neighbours_are_read_at_once(two):
    read = parquet(two)
    assert [task.rows for task in read.tasks(3)] == [2, 1, 1]
    (one,) = read.tasks(1)
    assert one.rows == 4 and [part.end for part in one.parts] == [2, 1]
    assert [row["a"] for row in rows(read, 3)] == [1, 2, 3, 4]


def test_columns_are_read_alone_and_in_order(two):
    read = parquet(two).with_columns(["b", "a"])
    assert list(rows(read)[0]) == ["b", "a"] and types(read) == {"b": "string", "a": "int64"}
    assert sum(t.num_rows for t in tables(parquet(two).with_columns([]))) == 4
    with pytest.raises(ValueError, match="'zz'"):
        parquet(two).with_columns(["zz"])
    again = parquet(two).with_columns(["b"])
    with pytest.raises(ValueError, match="'a'"):
        again.with_columns(["a"])


def test_a_filter_leaves_out_row_groups_and_rows(two):
    read = parquet(two).with_filter(Above("a", 2))
    assert [row["a"] for row in rows(read)] == [3, 4]
    assert [[(p.path[-9:], p.first) for p in task.parts] for task in read.tasks(1)] == [
        [("a.parquet", 1), ("b.parquet", 0)]
    ]
    assert rows(read.with_columns(["b"])) == [{"b": "z"}, {"b": "w"}], "a column that only the filter looks at"
    assert parquet(two).with_columns(["b"]).with_filter(Above("a", 2)) is None
    assert parquet(two).with_limit(1).with_filter(Above("a", 2)) is None
    assert read.count() is None and rows(parquet(two).with_filter(Above("a", 9))) == []


def test_partitions_are_columns_that_leave_out_files(tmp_path):
    for year, value in ((2020, 1), (2021, 2)):
        (tmp_path / f"y={year}").mkdir()
        pq.write_table(pa.table({"v": [value]}), tmp_path / f"y={year}" / "f.parquet")
    read = parquet(tmp_path)
    assert rows(read) == [{"v": 1, "y": "2020"}, {"v": 2, "y": "2021"}]
    assert rows(read.with_columns(["y"])) == [{"y": "2020"}, {"y": "2021"}]
    later = read.with_filter(Above("y", "2020"))
    assert rows(later) == [{"v": 2, "y": "2021"}] and [f[-16:] for f in later.files()] == ["y=2021/f.parquet"]
    assert rows(parquet(tmp_path, partitioning=None)) == [{"v": 1}, {"v": 2}]


def test_schemas_of_files_are_put_together(tmp_path):
    pq.write_table(pa.table({"a": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": [2], "c": [3]}), tmp_path / "b.parquet")
    read = parquet(tmp_path)
    assert types(read) == {"a": "int64", "c": "int64"}
    assert rows(read.with_columns(["c"])) == [{"c": None}, {"c": 3}]


def test_a_footer_that_is_none_is_said_by_its_task(two):
    (two / "c.parquet").write_bytes(b"PAR1junkjunkPAR1")
    read = parquet(two)
    tasks = list(read.tasks(-1))
    with pytest.raises(ReadError, match=r"c\.parquet"):
        rows(read)
    with pytest.raises(ReadError, match=r"c\.parquet"):
        read.count()
    assert tasks
    (two / "c.parquet").write_bytes(b"")
    assert len(rows(parquet(two))) == 4, "a file of no bytes has no rows"


def test_corrupt_data_names_row_group_rows_and_column(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"ok": list(range(100_000)), "bad": list(range(100_000))})
    pq.write_table(table, path, use_dictionary=False, row_group_size=50_000)
    column = pq.read_metadata(path).row_group(1).column(1)
    data = bytearray(path.read_bytes())
    start = column.data_page_offset + 2000
    data[start : start + 1000] = os.urandom(1000)
    path.write_bytes(data)
    with pytest.raises(ReadError, match="row group 1") as caught:
        rows(parquet(path))
    assert caught.value.rows == (50_000, 100_000) and caught.value.column == "bad" and caught.value.path == str(path)


def test_bytes_become_tensors(tmp_path):
    cell = np.arange(4, dtype="i4").tobytes()
    pq.write_table(pa.table({"a": [cell, cell]}), tmp_path / "a.parquet")
    form = ParquetFormat(tensors=(("a", np.int32, (2, 2)),))
    (table,) = tables(parquet(tmp_path, form))
    assert table["a"].combine_chunks().to_numpy_ndarray().tolist() == [[[0, 1], [2, 3]]] * 2
    assert parquet(tmp_path, form).schema() == table.schema
    with pytest.raises(ReadError, match="shape"):
        tables(parquet(tmp_path, ParquetFormat(tensors=(("a", np.int32, (3,)),))))


def test_pickled_objects_are_read_where_files_are_trusted(tmp_path, monkeypatch):
    table = pa.table({"a": [1], "o": objects.from_cells([{1, 2}])})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ReadError, match=PICKLED):
        rows(parquet(tmp_path))
    assert rows(parquet(tmp_path).with_columns(["a"])) == [{"a": 1}]
    monkeypatch.setenv(PICKLED, "1")
    assert tables(parquet(tmp_path))[0]["o"].to_pylist() == [{1, 2}]


def test_row_hashes_depend_on_the_place_alone(two):
    read = parquet(two, ParquetFormat(row_hash=True))
    hashes = [row["row_hash"] for row in rows(read)]
    assert hashes == [row["row_hash"] for row in rows(read, 3)] and len(set(hashes)) == 4
    assert types(read)["row_hash"] == "uint64"


def test_a_large_row_group_is_read_with_little_memory(tmp_path):
    rows_of = 4_000_000
    table = pa.table({"a": np.arange(rows_of), "b": np.arange(rows_of) * 0.5})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=rows_of, use_dictionary=False, compression="snappy")
    size = table.nbytes
    del table
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        count = 0
        for task in parquet(tmp_path).tasks(1):
            for table in task.read(TaskContext()):
                count += table.num_rows
    finally:
        pa.set_memory_pool(before)
    assert count == rows_of and pool.max_memory() < size * 0.5, (pool.max_memory(), size)


@pytest.mark.parametrize("name", ["b", "image.bytes"])
def test_tables_of_long_cells_have_few_rows(tmp_path, name):
    """Also where a name has points, as of a struct, and where the first row group has nothing but nulls."""
    cells = [None] * 2000 + [os.urandom(8 << 10) for _ in range(6000)]
    pq.write_table(pa.table({name: pa.array(cells, pa.binary())}), tmp_path / "a.parquet", row_group_size=2000)
    assert max(table.nbytes for table in tables(parquet(tmp_path))) < 3 * TABLE


def test_columns_of_one_name_are_told(tmp_path):
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(ReadError, match="several columns of the names"):
        tables(parquet(tmp_path))


def test_a_path_leads_into_the_longest_column_of_its_name():
    assert outermost("a.b.list.element", ["a"]) == "a" and outermost("a.b", ["a", "a.b"]) == "a.b"
    assert outermost("a", ["b"]) == "a" and outermost("a.b", ["b"]) == "a"


def test_many_files_are_grouped_without_their_footers(tmp_path, monkeypatch):
    for i in range(80):
        pq.write_table(pa.table({"a": [i]}), tmp_path / f"{i:03}.parquet")
    read = parquet(tmp_path)
    looked: list[str] = []
    real = ParquetFormat.footer
    monkeypatch.setattr(ParquetFormat, "footer", lambda self, file: looked.append(file.path) or real(self, file))
    tasks = list(read.tasks(4))
    assert len(looked) == 64 and len(tasks) == 4
    assert [row["a"] for row in rows(read, 4)] == list(range(80))


def test_rows_before_a_position_are_counted_by_footers_and_only_a_row_group_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("hpc.data.io.parquet.FOOTERS", 2)  # of other files a task does not know the rows
    for number in range(40):
        table = pa.table({"id": range(number * 100, (number + 1) * 100)})
        pq.write_table(table, tmp_path / f"{number:02d}.parquet", row_group_size=30)
    read = parquet(tmp_path)
    order = Order(3, 0, 64)
    found = ordered_plan(Read(read), order).rows
    whole = ordered_rows(found)
    assert sorted(whole) == [*range(4000)]
    for start in (1, 250, 1777, 3999):
        rest = without_first(found, start)
        again = sum(node.rows for node in walk(rest) if isinstance(node, Skip))
        assert again < 30, "at most one row group is read again"
        assert ordered_rows(rest) == whole[start:]
        (leaf,) = (node for node in walk(rest) if isinstance(node, Read))
        assert [row["id"] for row in rows(leaf.source.with_columns(["id"]))] == whole[start - again :]
    filtered = ordered_plan(Read(parquet(tmp_path).with_filter(col("id") >= 0)), order).rows
    skipped = [node.rows for node in walk(without_first(filtered, 1777)) if isinstance(node, Skip)]
    assert skipped == [1777], "how many rows a filter leaves is not known ahead"


def ordered_rows(plan):
    return [row["id"] for table in interpret(plan) for row in table.to_pylist()]
